"""A batch size that follows the gradient's noise and the machine's speed."""
