"""The kernel of each fusion, by its anchor."""
