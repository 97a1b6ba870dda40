"""What AVT (facebookresearch/AVT) leaves behind: its checkpoints, and the scores it stores."""
