"""A student for others: exported, described, in forms that run without us, and on the hub."""
