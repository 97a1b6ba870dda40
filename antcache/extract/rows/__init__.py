"""When rows are seen, what of a video they are made of, and where they wait to be stored."""
