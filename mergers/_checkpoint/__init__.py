"""Checkpoints in files: read, compared, described before a byte is downloaded, and written complete or not at all."""
