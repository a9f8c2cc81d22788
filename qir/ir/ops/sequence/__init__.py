"""Ops of sequences: rows are the last axis, tokens the axis before it."""
