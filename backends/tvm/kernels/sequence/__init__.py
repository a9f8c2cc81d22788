"""Kernels of sequences in TIR."""
