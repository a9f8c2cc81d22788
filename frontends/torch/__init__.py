"""PyTorch modules and exported programs become imported graphs."""
