"""TIR of every requantize: of loops over elements, and of vectors of accumulators."""
