"""A small generated kitchen: videos, labels and recipe scripts to run the whole method on."""
