"""Models from outside become imported graphs: one folder for each outside format."""
