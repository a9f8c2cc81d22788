"""ONNX models, float and quantized, become imported graphs."""
