"""TIR functions for the kernels of qir.backends.kernels; `registry.emit` knows them all."""
