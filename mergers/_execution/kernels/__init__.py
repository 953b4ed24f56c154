"""Fused merges of raw memory: one pass over the inputs, no memory beyond a few kilobytes. Empty on purpose."""
