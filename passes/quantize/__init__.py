"""transformed -> simulated: quantize and dequantize on the edges, and corrections."""
