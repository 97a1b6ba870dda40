"""Two systems on the same segments: what one gains, and what a teacher knew."""
