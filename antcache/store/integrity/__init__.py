"""What is done with a store as a whole: verify, repair, convert, and what it holds."""
