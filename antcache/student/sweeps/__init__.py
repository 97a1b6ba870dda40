"""Sweeps: many seeds and settings of one architecture, trained at once."""
