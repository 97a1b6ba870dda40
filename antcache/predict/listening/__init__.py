"""A text teacher that hears what a student recognises, and how much it counts beside it."""
