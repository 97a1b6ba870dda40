"""What `teacher foresee` and `student foresee` share: their task, and how figures are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import FORESIGHTS
from antcache.cli.command import section
from antcache.cli.common import print_result, print_table, say
from antcache.cli.numbers import COUNT
from antcache.cli.options import seed_option, split_option

if TYPE_CHECKING:
    from antcache.evaluation.long_term.scores import EditScore, ForeseeingConfig, FrameScore


def task_options(command: Callable[..., None]) -> Any:
    """What is foreseen, as options."""
    return section(
        "Task",
        click.option(
            "--form",
            type=FORESIGHTS,
            default="ego4d",
            help="Edit distance of the next actions, or frames of the next shares of the videos.",
        ),
        split_option("validation"),
        click.option(
            "--steps",
            type=COUNT,
            metavar="Z",
            default=20,
            help="ego4d: next actions that are said.",
        ),
        click.option(
            "--samples", type=COUNT, metavar="K", default=5, help="ego4d: sequences that are drawn."
        ),
        seed_option(),
    )(command)


def print_foresight(
    found: EditScore | FrameScore, config: ForeseeingConfig, *, as_json: bool
) -> None:
    """Print the figures of either form."""
    from antcache.evaluation.long_term.scores import EditScore

    def show(found: EditScore | FrameScore) -> None:
        if isinstance(found, EditScore):
            _print_edits(found, config.steps, config.samples)
        else:
            _print_frames(found)

    print_result(found, as_json, show)


def _print_edits(found: EditScore, steps: int, samples: int) -> None:
    rows = [
        [kind, f"{distance:.3f}", f"{found.likeliest[kind]:.3f}"]
        for kind, distance in found.sampled.items()
    ]
    print_table(
        "edit distance of the next actions, 0 is perfect",
        ["of", f"ED@({steps},{samples}), drawn", f"ED@({steps},1), likeliest"],
        rows,
    )
    say(f"after {found.n} segments; {found.left_out} have fewer than {steps} after them")


def _print_frames(found: FrameScore) -> None:
    ahead = list(dict.fromkeys(row["ahead"] for row in found.rows))
    by_observed: dict[float, list[str]] = {}
    for row in found.rows:
        by_observed.setdefault(row["observed"], []).append(f"{row['mean_over_classes']:.1f}")
    print_table(
        "mean over classes of the frames that are right, percent",
        ["observed", *(f"next {share:.0%}" for share in ahead)],
        [[f"{observed:.0%}", *figures] for observed, figures in by_observed.items()],
    )
    say(f"{found.n} videos; {found.left_out} left out")
