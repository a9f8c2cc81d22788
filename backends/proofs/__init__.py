"""Proofs of a program, over its graph and its machine code."""
