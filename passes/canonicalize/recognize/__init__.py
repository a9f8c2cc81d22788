"""Functions that a model wrote out in elementary ops, recognized as one op."""
