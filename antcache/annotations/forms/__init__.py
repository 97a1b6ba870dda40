"""Published forms of labels that are no lists of verb and noun: frames, steps, clips."""
