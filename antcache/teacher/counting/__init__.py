"""The count teacher: n-grams and recency."""
