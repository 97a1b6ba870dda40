"""Teachers: what text alone expects next, as soft targets for every segment."""

from antcache.teacher.base import KINDS, Teacher, load_teacher, make_teacher, save_teacher
from antcache.teacher.histories import Examples, HistoryConfig, Timeline
from antcache.teacher.scripts import Scripts, read_scripts
from antcache.teacher.targets import TargetConfig, make_targets, score_segments
from antcache.teacher.teach import apply_teacher, teach

__all__ = [
    "KINDS",
    "Examples",
    "HistoryConfig",
    "Scripts",
    "TargetConfig",
    "Teacher",
    "Timeline",
    "apply_teacher",
    "load_teacher",
    "make_targets",
    "make_teacher",
    "read_scripts",
    "save_teacher",
    "score_segments",
    "teach",
]
