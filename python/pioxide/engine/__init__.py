"""A model laid out and compiled for inference: no robot, no text, no state of its own. Needs JAX."""
