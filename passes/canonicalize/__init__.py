"""imported -> canonical: one form for the many ways to write a network."""
