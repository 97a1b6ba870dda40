"""`antcache teacher adapt`: masked-LM training of a language model on a recipe corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.choices import FORMS, INITS, PRECISIONS
from antcache.cli.command import command, section
from antcache.cli.common import (
    json_option,
    log_to,
    path_argument,
    print_json,
    print_table,
    progress_bars,
)
from antcache.cli.numbers import COUNT, PART, POSITIVE
from antcache.cli.options import (
    device_option,
    output_option,
    overwrite_option,
    revision_option,
    seed_option,
)
from antcache.teacher.language.config import AdaptConfig

if TYPE_CHECKING:
    from antcache.teacher.language.recipes import Recipe

SHOWN = {
    "recipes": "recipes",
    "held_out_recipes": "held-out recipes",
    "texts": "texts",
    "actions": "actions",
    "distinct_actions": "different actions",
    "perplexity_before": "held-out perplexity before",
    "perplexity_after": "held-out perplexity after",
    "seconds": "seconds",
}
DEFAULTS = AdaptConfig()


def setting(
    name: str, text: str, kind: Any = None, option: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for a setting of the adaptation, with its default."""
    default = getattr(DEFAULTS, name)
    option = option or f"--{name.replace('_', '-')}"
    return click.option(option, name, type=kind, default=default, help=text)


@command(
    example="antcache teacher adapt corpus --output adapted-lm --steps 2000",
    then="`antcache teacher train` takes it: --kind language --model OUTPUT.",
    goes_on="add --resume to the same command.",
)
@path_argument("corpus", metavar="CORPUS")
@section(
    "Model",
    output_option("Folder of the model."),
    setting("model", "Language model, an encoder: hub id or folder."),
    revision_option,
    setting("init", "random takes the architecture and the tokenizer alone.", INITS),
)
@section(
    "Recipes",
    click.option("--train", default="train", help="Partition to train on."),
    click.option("--held-out", default="val", help="Partition for perplexity."),
    setting("form", "Text of a recipe.", FORMS),
    setting("actions", "Most actions of one text.", COUNT),
    setting("mask", "Share of the tokens that are predicted.", PART),
)
@section(
    "Training",
    setting("steps", "Steps of the optimizer.", COUNT),
    setting("batch", "Texts computed at once.", COUNT, "--batch-size"),
    setting("accumulate", "How often, before each step.", COUNT),
    setting("lr", "Highest learning rate.", POSITIVE),
    setting("precision", "auto: bfloat16 where the device computes in it.", PRECISIONS),
    seed_option(DEFAULTS.seed),
    device_option,
)
@section(
    "Going on",
    setting("save_every", "Steps between two savings, for --resume.", COUNT),
    click.option("--resume", is_flag=True, help="Go on where it was stopped."),
    overwrite_option,
)
@json_option
def adapt(
    corpus: Path,
    output: Path,
    train: str,
    held_out: str,
    device: str,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a masked language model on the recipes in CORPUS, for the teacher kind `language`."""
    from antcache.teacher.language.adapt import adapt as adapt_model  # loads torch

    config = AdaptConfig(**settings)
    recipes, measured = _recipes(corpus, train), _recipes(corpus, held_out)
    with log_to(output.with_name(f"{output.name}.log")), progress_bars() as progress:
        report = adapt_model(
            recipes,
            measured,
            config,
            output,
            device=device,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json({"model": str(output), **report})
        return
    print_table(str(output), ["", "value"], [[text, report[key]] for key, text in SHOWN.items()])


def _recipes(corpus: Path, partition: str) -> Iterator[Recipe]:
    """Verb and object of each step; what is wrong with the corpus is said at once."""
    from antcache.teacher.corpus import read_actions

    rows = read_actions(corpus, partition)
    return (list(zip(verbs, objects, strict=True)) for verbs, objects in rows)
