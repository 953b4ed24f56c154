"""Parts of a search space: simplices as broken sticks, factorized weights, groups of layers, merges as JSON."""
