"""Training, export and quantization: the side that needs torch. Inference never imports it."""
