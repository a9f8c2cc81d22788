"""Channels brought together or spread so that blocks which share a scale lose less."""
