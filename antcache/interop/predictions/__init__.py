"""Predictions that others have made, into the store as soft targets."""
