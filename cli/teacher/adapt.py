"""`antcache teacher adapt`: masked-LM training of a language model on a recipe corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from antcache.cli.common import (
    PATH,
    json_option,
    log_to,
    path_argument,
    print_json,
    print_table,
    progress_bars,
)
from antcache.cli.numbers import COUNT, PART, POSITIVE, SEED
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
    name: str, text: str, kind: Any = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option for a setting of the adaptation, with its default."""
    default = getattr(DEFAULTS, name)
    option = f"--{name.replace('_', '-')}"
    return click.option(option, type=kind, default=default, show_default=True, help=text)


@click.command()
@path_argument("corpus", metavar="CORPUS")
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the model.")
@setting("model", "Encoder to adapt: hub id or folder.")
@click.option("--revision", help="Branch, tag or commit of a hub id.")
@setting("init", "pretrained, or random (architecture and tokenizer alone).")
@setting("form", "Text of a recipe: paper or natural.")
@setting("actions", "Most actions of one text.", COUNT)
@setting("steps", "Steps of the optimizer.", COUNT)
@setting("batch", "Texts computed at once.", COUNT)
@setting("accumulate", "How often, before each step.", COUNT)
@setting("lr", "Highest learning rate.", POSITIVE)
@setting("mask", "Share of the tokens that are predicted.", PART)
@setting("save_every", "Steps between two savings, for --resume.", COUNT)
@setting("precision", "bfloat16, float32 or auto.")
@setting("seed", "Decides all that is random.", SEED)
@click.option("--train", default="train", show_default=True, help="Partition to train on.")
@click.option("--held-out", default="val", show_default=True, help="Partition for perplexity.")
@click.option("--device", default="cpu", show_default=True, help="Torch device.")
@click.option("--resume", is_flag=True, help="Take up a training that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
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
