"""Commands beside the main story, one file for what each of them does."""
