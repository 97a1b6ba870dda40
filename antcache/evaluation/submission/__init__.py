"""What leaderboards ask to be predicted, and the files that they take."""
