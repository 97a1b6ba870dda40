"""A teacher told of nothing but what a recogniser says of the frames: histories that it guesses."""
