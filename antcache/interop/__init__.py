"""Features and predictions of others into a store, and the way back; nothing below knows of it."""
