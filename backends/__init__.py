"""An integer graph becomes an artifact: kernels, packed weights, buffers, files."""
