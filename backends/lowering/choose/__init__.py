"""The kernel of each group, by its anchor."""
