"""LoRA adapters as experts: folded on read, or kept as factors."""
