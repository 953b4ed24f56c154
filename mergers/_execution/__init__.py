"""From a plan to a merged tensor, on the CPU and on a GPU."""
