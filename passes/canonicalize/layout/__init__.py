"""Layouts: placement of transposes, other data movement, quantize and dequantize."""
