"""Races: which items a candidate is scored on, which candidates are dropped, which methods lag."""
