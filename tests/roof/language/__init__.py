"""Language models, from the roof."""
