"""Integer graph -> program: groups, layouts, kernels, buffers with offsets."""
