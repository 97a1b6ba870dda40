"""Long-term anticipation: figures of what is said of the actions after the next."""

from antcache.evaluation.long_term.edits import edit_distance, edit_distances, edits
from antcache.evaluation.long_term.frames import frames_ahead, mean_over_classes

__all__ = ["edit_distance", "edit_distances", "edits", "frames_ahead", "mean_over_classes"]
