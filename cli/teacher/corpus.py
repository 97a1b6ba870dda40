"""`antcache teacher corpus`: write the actions that a recipe collection names as action text."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from antcache.cli.choices import EXTRACTORS
from antcache.cli.command import START_AGAIN, command, section
from antcache.cli.common import (
    PATH,
    StoreLocation,
    json_option,
    path_argument,
    print_json,
    print_table,
    progress_bars,
    say,
)
from antcache.cli.numbers import Several
from antcache.cli.options import output_option, overwrite_option
from antcache.errors import BadConfig

if TYPE_CHECKING:
    from antcache.store.location import Location
    from antcache.teacher.corpus import WordLists

SHOWN = {
    "recipes": "recipes",
    "recipes_without_pairs": "recipes without a pair (left out)",
    "instructions": "instructions",
    "pairs": "verb-object pairs",
    "actions_without_object": "verbs without an object (left out)",
    "verbs": "different verbs",
    "objects": "different objects",
}


@command(
    example="antcache teacher corpus layer1.json --output corpus --annotations annotations",
    then="`antcache teacher adapt` trains a language model on it.",
    goes_on=START_AGAIN,
)
@path_argument("source", metavar="RECIPES")
@output_option("Folder of the corpus.")
@click.option(
    "--partition",
    "partitions",
    type=Several(click.STRING),
    metavar="NAME,...",
    help="Only recipes of these, e.g. train,val.",
)
@overwrite_option
@section(
    "How actions are found",
    click.option(
        "--extractor",
        type=EXTRACTORS,
        default="lexicon",
        help="lexicon needs word lists, dependency a spaCy model.",
    ),
    click.option(
        "--annotations",
        type=PATH,
        metavar="DIR",
        help="Folder with EPIC-KITCHENS' verb and noun class files, for the lexicon.",
    ),
    click.option(
        "--taxonomy-from",
        type=StoreLocation(),
        metavar="STORE",
        help="Store whose verbs and nouns the lexicon takes instead.",
    ),
    click.option(
        "--spacy-model", metavar="NAME", show_default="en_core_web_sm", help="Installed pipeline."
    ),
)
@json_option
def corpus(
    source: Path,
    output: Path,
    extractor: str,
    annotations: Path | None,
    taxonomy_from: Location | None,
    spacy_model: str | None,
    partitions: tuple[str, ...] | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the actions in RECIPES (Recipe1M's layer1.json) as a corpus of action text."""
    from antcache.teacher.corpus import CorpusConfig, make_extractor, write_corpus

    finder = make_extractor(
        extractor, words=_words(annotations, taxonomy_from), spacy_model=spacy_model
    )
    config = CorpusConfig(partitions=partitions or ())
    started = time.perf_counter()
    with progress_bars() as progress:
        facts = write_corpus(source, output, finder, config, overwrite=overwrite, progress=progress)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"corpus": str(output), "seconds": seconds, **facts})
        return
    parts = ", ".join(f"{name} {count}" for name, count in facts["partitions"].items())
    rows = [[text, facts[key]] for key, text in SHOWN.items()]
    print_table(f"{output}: {extractor} extractor; {parts}", ["", "count"], rows)
    say(f"{seconds:.1f} s")


def _words(annotations: Path | None, taxonomy_from: Location | None) -> WordLists | None:
    from antcache.teacher.corpus import read_word_lists, word_lists_of

    if annotations is not None and taxonomy_from is not None:
        raise BadConfig("two sources of words", expected="--annotations or --taxonomy-from")
    if annotations is not None:
        return read_word_lists(annotations)
    if taxonomy_from is None:
        return None
    from antcache.store import Store

    return word_lists_of(Store.open(taxonomy_from).taxonomy)
