"""What `compare` and `report` ask alike: which systems, which segments, which intervals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from antcache.cli.choices import DENOMINATORS
from antcache.cli.command import section
from antcache.cli.common import store_argument
from antcache.cli.numbers import AMOUNT, COUNT, Several
from antcache.cli.options import (
    bootstrap_option,
    classes_option,
    cluster_option,
    seed_option,
    split_option,
)
from antcache.errors import BadConfig
from antcache.evaluation.comparing.compare import CompareConfig
from antcache.evaluation.present import Classes
from antcache.evaluation.sheet import BootstrapConfig

OPTIONS = (
    store_argument(),
    click.argument("systems", metavar="[A B]", nargs=-1),
    section(
        "Systems",
        click.option(
            "--a", "side_a", multiple=True, metavar="A", help="A run of A; once per seed."
        ),
        click.option(
            "--b", "side_b", multiple=True, metavar="B", help="A run of B; once per seed."
        ),
        click.option(
            "--name",
            "names",
            multiple=True,
            help="What A is called, and given again, B  [default: after their runs].",
        ),
        click.option(
            "--teacher",
            metavar="TEACHER",
            help="Sort fixed and broken segments by what this one knew.",
        ),
    ),
    section(
        "What counts",
        split_option(shown="the one that A names"),
        classes_option,
        click.option(
            "--over",
            type=DENOMINATORS,
            default="avt",
            help="Which segments count; unseen: those of unseen participants.",
        ),
        click.option(
            "--ks",
            type=Several(COUNT),
            default=(1, 5),
            show_default="1,5",
            help="Best guesses that count.",
        ),
    ),
    section("Intervals", bootstrap_option(1000), cluster_option, seed_option()),
    click.option("--examples", type=AMOUNT, default=3, help="Segments per bucket."),
)


def comparison_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options, and call it with what they mean.

    It gets `store`, `side_a` and `side_b` (one run per seed), `names`, `teacher`, `split` and
    `config` (a `CompareConfig`) beside its own options.
    """

    @functools.wraps(command)
    def called(
        systems: tuple[str, ...],
        side_a: tuple[str, ...],
        side_b: tuple[str, ...],
        scored_classes: Classes,
        over: str,
        bootstrap: int,
        cluster: str,
        seed: int,
        ks: tuple[int, ...],
        examples: int,
        **others: Any,
    ) -> None:
        if bool(systems) == bool(side_a or side_b) or len(systems) not in (0, 2):
            raise BadConfig(
                "which systems?",
                expected="A and B, or --a and --b once per seed",
                found=len(systems),
            )
        if systems:
            side_a, side_b = systems[:1], systems[1:]
        sampling = BootstrapConfig(resamples=bootstrap, cluster=cluster, seed=seed)
        config = CompareConfig(
            over=over, classes=scored_classes, sampling=sampling, ks=ks, examples=examples
        )
        command(side_a=side_a, side_b=side_b, config=config, **others)

    result: Callable[..., None] = called
    for option in reversed(OPTIONS):
        result = option(result)
    return result
