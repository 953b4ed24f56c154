"""Directories that live in buckets: published whole, restored anywhere, written by one at a time."""
