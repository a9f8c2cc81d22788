"""Data -> ranges: what each value of a float graph takes over calibration inputs."""
