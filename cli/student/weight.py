"""`antcache student weight`: a distillation weight in the paper's convention and in ours."""

from __future__ import annotations

import click

from antcache.cli.command import UNCHANGED, command
from antcache.cli.common import json_option, print_json, say, warn
from antcache.cli.numbers import COUNT


@command(
    example="antcache student weight --paper 150@T10/C106",
    then="`antcache student train` takes it as --weight, with --temperature.",
    goes_on=UNCHANGED,
)
@click.option("--paper", metavar="W@T<T>/C<C>", help="A weight as the paper writes it.")
@click.option("--ours", metavar="W@T<T>/C<C>", help="A weight as --weight takes it.")
@click.option("--k", type=COUNT, help="Classes of top-k targets; without it KL runs over all C.")
@json_option
def weight(paper: str | None, ours: str | None, k: int | None, as_json: bool) -> None:
    """Convert a weight of the distillation term, e.g. --paper 150@T10/C106.

    The paper averages KL over rows and classes, antcache over rows alone; both multiply by T^2. So
    a weight of the paper is to be divided by the number of classes that KL runs over: C, or k. A
    published weight with another number of classes is warned of.
    """
    from antcache.student.training.weights import describe, parse_weight

    if (paper is None) == (ours is None):
        raise click.UsageError("give one of --paper and --ours")
    text, convention = (paper, "paper") if paper is not None else (ours, "ours")
    assert text is not None
    read = parse_weight(text, convention=convention, k=k)
    for sentence in describe(read)[1:]:
        warn(sentence)
    if as_json:
        print_json(read.to_dict())
        return
    n = f"C = {read.classes}" if k is None else f"k = {k}"
    say(f"paper:     {read.paper:.6g}   mean over rows and {n} classes, times T^2")
    say(f"ours:      {read.ours:.6g}   --weight; mean over rows, times T^2")
    say(f"effective: {read.effective:.6g}   times mean KL, T^2 = {read.temperature:g}^2 included")
