"""canonical -> transformed: float rewrites that make a graph easier to quantize."""
