"""Contractions (convolution, linear) as data: geometry, tiling, packed weights. NumPy only."""
