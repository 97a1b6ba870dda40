"""What does the work of a pass: one call for one video, which any engine can use."""
