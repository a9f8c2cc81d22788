"""The bits of each layer."""
