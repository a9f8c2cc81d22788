"""Recognize functions that a model writes in primitive ops."""
