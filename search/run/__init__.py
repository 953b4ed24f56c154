"""The run directory: made and locked, its items, its journal, where it lies, what another run may take over."""
