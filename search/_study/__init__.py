"""Pieces of a study: where its rows live, what is asked next, the loop that scores it. Machinery of `search.study`."""
