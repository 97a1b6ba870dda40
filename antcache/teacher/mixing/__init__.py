"""Several teachers as one: mixtures, how they are learned, and joint soft targets."""
