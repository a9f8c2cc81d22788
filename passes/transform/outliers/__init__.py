"""Channels that reach far beyond the others: scaled, shifted or rotated away."""
