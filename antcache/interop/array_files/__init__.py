"""Features of others, one file of an array per video, in and out."""
