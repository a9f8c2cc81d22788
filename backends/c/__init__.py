"""C sources of an artifact, filled in from templates/."""
