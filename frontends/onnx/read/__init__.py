"""An ONNX file -> a checked, folded, ordered list of nodes."""
