"""Passes: graph to graph, one per file, the manager, and the pipelines that order them."""
