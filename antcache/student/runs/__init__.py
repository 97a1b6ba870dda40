"""Runs: the folder that keeps one, its checkpoints, and predictions from it."""
