"""Training: what is learned from, the objective, and the loop."""
