"""Kernels and C sources -> objects, archives and libraries."""
