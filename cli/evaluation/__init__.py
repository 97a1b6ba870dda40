"""Commands that score, compare, mix and hand in predictions."""
