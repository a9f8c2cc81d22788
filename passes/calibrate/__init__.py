"""Calibration: the ranges of a float graph's values on sample inputs."""
