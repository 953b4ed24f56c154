"""What `search.check` looks at, one file for each: checkpoints, data rows, items, the machine, the output directory."""
