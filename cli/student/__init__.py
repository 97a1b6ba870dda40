"""`antcache student`: students, one by one and many at once."""

from __future__ import annotations

import click

from antcache.cli.lazy import LazyGroup

COMMANDS = {
    "train": ("antcache.cli.student.train", "Train a student; score it on the validation split."),
    "recognise": ("antcache.cli.student.recognise", "Train a student to say what is under way."),
    "sweep": ("antcache.cli.student.sweep", "Train many seeds and settings; compare them."),
    "predict": ("antcache.cli.student.predict", "Predict another split, or a test list."),
    "foresee": ("antcache.cli.student.foresee", "Say several next actions, and score them."),
    "stream": ("antcache.cli.student.streaming", "Score with predictions that come late."),
    "weight": ("antcache.cli.student.weight", "Convert a distillation weight to the paper's."),
    "export": ("antcache.cli.student.export", "Write a student as a folder for others."),
    "push": ("antcache.cli.student.push", "Put a student on a hub."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def student() -> None:
    """Train students from a store."""
