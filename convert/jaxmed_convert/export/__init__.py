"""Export through torch: modules, traced programs, ONNX."""
