"""Measured times: of a call, of each kernel, of a machine."""
