"""The processes that run models: ONNX files, packages, Python classes, chains of these."""
