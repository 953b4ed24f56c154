"""Parts of `mergefront doctor`."""
