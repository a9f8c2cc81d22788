"""Passes that make a network less deep: layers side by side, and layers left out."""
