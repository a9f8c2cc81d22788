"""Channels last: where transposes, other data movement, quantize and dequantize stand."""
