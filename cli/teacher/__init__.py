"""`antcache teacher`: what text alone expects next, and the recipes that it learns from."""

from __future__ import annotations

import click

from antcache.cli.lazy import LazyGroup

COMMANDS = {
    "train": ("antcache.cli.teacher.train", "Train a teacher; write its soft targets."),
    "predict": ("antcache.cli.teacher.train", "Write the soft targets of a trained teacher."),
    "score": ("antcache.cli.teacher.score", "Every figure of teachers and soft targets."),
    "foresee": ("antcache.cli.teacher.foresee", "Say several next actions, and score them."),
    "listen": ("antcache.cli.teacher.listen", "Let a teacher hear what a student recognises."),
    "ensemble": ("antcache.cli.teacher.ensemble", "Mix the soft targets of several teachers."),
    "corpus": ("antcache.cli.teacher.corpus", "Turn recipes into sequences of actions."),
    "adapt": ("antcache.cli.teacher.adapt", "Train a language model on recipes."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def teacher() -> None:
    """Train teachers on labels; write soft targets."""
