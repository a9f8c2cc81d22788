"""Loads and runs an artifact, with the standard library and NumPy only."""
