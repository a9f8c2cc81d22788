"""ONNX operators -> qir ops, one file a family."""
