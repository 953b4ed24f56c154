"""Kernels for the processor, compiled by numba. Importing a module of this folder imports numba."""
