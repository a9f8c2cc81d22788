"""TIR of the kernels of qir.backends.kernels; `registry.emit` finds them."""
