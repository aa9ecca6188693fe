"""numbapool for PyTorch: layers (this module), functions with autograd (functional), and replace_pooling."""
