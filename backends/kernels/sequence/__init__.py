"""Kernels of sequences: the codes of ops on rows whose numbers are found at run time."""
