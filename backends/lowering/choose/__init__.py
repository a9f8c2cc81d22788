"""Which kernel runs a group, by its anchor."""
