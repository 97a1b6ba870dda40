"""Heads: what stands between the features of a window and the scores of the next action."""
