"""Requantize as code: sums of products become stored values, in the cheapest form that is exact.

Two kinds of kernels need two plans of one formula (scale.py). Loops over elements take any number
of terms, and numbers for any axes: scaling.py. Contractions end in vectors of int32 lanes, which
are channels, with one residual at most: epilogue.py.
"""
