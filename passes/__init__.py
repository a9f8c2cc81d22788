"""Graph -> graph: one pass a file, the manager, and the pipelines that order them."""
