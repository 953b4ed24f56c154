"""What the methods' references share: formulas on tensors, and the random numbers of masks."""
