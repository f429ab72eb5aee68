"""Export of a trained model to torch, ONNX, StableHLO and safetensors."""
