"""Integer graph -> program: fusions, layouts, kernels, buffers with offsets."""
