"""Operators of transformers, written out in the ops that recognize-attention puts together."""
