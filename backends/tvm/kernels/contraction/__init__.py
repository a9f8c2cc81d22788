"""Contractions in TIR, around a machine's dot instruction."""
