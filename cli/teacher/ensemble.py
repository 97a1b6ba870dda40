"""`antcache teacher ensemble`: mix soft targets of a store into joint ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import MIXES
from antcache.cli.command import TRAINED_ONCE, command, section
from antcache.cli.common import (
    json_option,
    log_to,
    print_json,
    print_table,
    progress_bars,
    say,
    store_argument,
)
from antcache.cli.numbers import AMOUNT
from antcache.cli.options import (
    name_option,
    output_option,
    overwrite_option,
    seed_option,
    top_k_option,
    train_split_option,
)
from antcache.cli.teacher.figures import facts_of, print_figures
from antcache.errors import BadConfig

if TYPE_CHECKING:
    from antcache.store.location import Location

LEARNED = {"nats": "nll", "top-1": "top1", "top-5": "top5", "recall@5": "recall@5"}


@command(
    example="antcache teacher ensemble kitchen.zarr count sequence --name joint",
    then="`antcache teacher score` tells what they are worth, `antcache student train` distils "
    "from them.",
    goes_on=TRAINED_ONCE,
)
@store_argument("store_path")
@click.argument("members", metavar="MEMBER...", nargs=-1, required=True)
@section(
    "Mixture",
    click.option("--mix", type=MIXES, default="mean", help="How members are mixed."),
    click.option(
        "--balance",
        default="0",
        metavar="X",
        help="Divide by the class prior to the power of X; tuned: the best one for recall@5.",
    ),
    click.option("--mixed-histories", is_flag=True, help="Mix members with different histories."),
    output_option("Folder of the mixture.", shown="STORE.teachers/NAME"),
)
@section(
    "Training",
    train_split_option,
    click.option(
        "--folds",
        type=AMOUNT,
        metavar="K",
        default=5,
        help="Folds of training videos, each mixed by what was learned on the others.",
    ),
    seed_option(),
)
@section("Soft targets", name_option, top_k_option, overwrite_option)
@json_option
def ensemble(
    store_path: Location,
    members: tuple[str, ...],
    name: str,
    mix: str,
    balance: str,
    folds: int,
    train_split: str,
    mixed_histories: bool,
    seed: int,
    top_k: int | None,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Mix the soft targets MEMBER... of STORE into joint ones; keep the mixture.

    Members are named as `antcache store info` lists them. All but the mean is learned, from
    members whose training segments are cross-fitted (`antcache teacher train --folds`).
    """
    from antcache.store import Store

    store = Store.open(store_path)
    from antcache.store.location import beside
    from antcache.teacher.keeping import teacher_folder
    from antcache.teacher.mixing.ensemble import EnsembleConfig
    from antcache.teacher.mixing.ensemble import ensemble as mix_targets

    config = EnsembleConfig(
        members=members,
        mix=mix,
        balance=_number(balance),
        folds=folds,
        seed=seed,
        train_split=train_split,
        mixed_histories=mixed_histories,
    )
    folder = output or teacher_folder(store, name)
    started = time.perf_counter()
    with log_to(beside(store.path, ".log")), progress_bars() as progress:
        targets = mix_targets(
            store, name, config, folder, top_k=top_k, overwrite=overwrite, progress=progress
        )
    facts = facts_of(store, name, targets, "mixture", folder, time.perf_counter() - started)
    if as_json:
        print_json(facts)
    else:
        _print(facts)


def _number(balance: str) -> float | None:
    if balance == "tuned":
        return None
    try:
        return float(balance)
    except ValueError as error:
        raise BadConfig(
            "impossible balance", where="--balance", expected="a number or tuned", found=balance
        ) from error


def _print(facts: dict[str, Any]) -> None:
    rows = [
        [name, f"{weight:.3f}", f"{temperature:.3f}", str(facts["member_folds"][name])]
        for name, weight, temperature in zip(
            facts["members"], facts["weights"], facts["temperatures"], strict=True
        )
    ]
    title = f"targets/{facts['targets']}: {facts['mix']}, {facts['history']} history"
    print_table(title, ["member", "weight", "temperature", "folds"], rows)
    if facts["scores"]:
        rows = [[n, *(s[key] for key in LEARNED.values())] for n, s in facts["scores"].items()]
        print_table("training videos, cross-fitted members", ["", *LEARNED], rows)
    print_figures("joint targets", facts)
    say(f"mixture {facts['mixture']}, {facts['seconds']:.1f} s")
    if facts["valid"] < facts["segments"]:
        say(f"{facts['segments'] - facts['valid']} segments without a target of every member")
