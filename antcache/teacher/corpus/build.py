"""A recipe collection as a corpus of action text, written in one pass.

Promise: memory does not grow with the recipes, only with the number of different verbs and objects;
the folder appears all at once, when it is complete; an interruption leaves what was there before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from antcache import __version__
from antcache.checks import Count, check_types
from antcache.errors import BadAnnotations, BadConfig, needs
from antcache.files import FolderKind, atomic_folder
from antcache.progress import Progress, silent
from antcache.teacher.corpus.extractors import Extractor
from antcache.teacher.corpus.parsed import ParsedAction
from antcache.teacher.corpus.recipes import Recipe, read_recipes

FORMAT = "antcache-corpus-1"
FACTS_FILE = "corpus.json"
OUTPUT = FolderKind(what="a corpus", mark=FACTS_FILE)
RECIPES_FILE = "recipes.parquet"
COUNTS_FILES = {"verb": "verbs.parquet", "object": "objects.parquet"}
BATCH = 256
"""Recipes whose instructions an extractor gets at a time."""


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How a corpus is written.

    Attributes:
        partitions: only recipes of these; all where empty.
        rows_per_group: recipes in a row group of the parquet file, which is what is held in memory.
    """

    partitions: tuple[str, ...] = ()
    rows_per_group: Count = 8192

    def __post_init__(self) -> None:
        check_types(self)
        if "" in self.partitions:
            raise BadConfig("a partition without a name", expected="names such as train, val")


def action_text(verbs: Iterable[str], objects: Iterable[str]) -> str:
    """Actions as the teachers of the paper read them: `cut <v> onion <a> add <v> salt`."""
    return " <a> ".join(f"{v} <v> {o}" for v, o in zip(verbs, objects, strict=True))


def write_corpus(
    source: Path,
    folder: Path,
    extractor: Extractor,
    config: CorpusConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the actions of the recipes in `source` as a corpus; returns what `corpus.json` says.

    Args:
        source: a JSON list of recipes, as Recipe1M's `layer1.json`.
        folder: where the corpus appears.
        extractor: finds the actions.
        config: which recipes, and how they are written.
        overwrite: replace a corpus that is there.
        progress: called with bytes read.

    Raises:
        AlreadyExists: something is at `folder` and `overwrite` is false, or it is not a corpus.
        WriteFailed: the disk refused.
        NotFound, BadAnnotations: see `recipes.read_recipes`.
        BadConfig: a partition has no recipe.
        MissingExtra: pyarrow is not installed.
    """
    config = config or CorpusConfig()
    with needs("pyarrow", "corpus"):
        import pyarrow  # noqa: F401
    OUTPUT.check(folder, overwrite=overwrite)
    total = source.stat().st_size if source.is_file() else 0
    recipes = read_recipes(source, read=lambda done: progress("bytes read", done, total))
    with atomic_folder(folder, OUTPUT, overwrite=overwrite) as staged:
        facts = _write(recipes, staged, extractor, config, source)
        progress("bytes read", total, total)
    return facts


def _write(
    recipes: Iterator[Recipe],
    folder: Path,
    extractor: Extractor,
    config: CorpusConfig,
    source: Path,
) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    words = pyarrow.list_(pyarrow.string())
    columns = {"id": pyarrow.string(), "partition": pyarrow.string(), "title": pyarrow.string()}
    columns |= {"text": pyarrow.string(), "verbs": words, "objects": words}
    schema = pyarrow.schema([*columns.items(), ("n_actions", pyarrow.int32())])
    tally = _CorpusTally()
    with pyarrow.parquet.ParquetWriter(folder / RECIPES_FILE, schema) as writer:
        rows: list[dict[str, Any]] = []
        while batch := list(islice(recipes, BATCH)):
            rows += tally.rows(batch, extractor, config.partitions)
            while len(rows) >= config.rows_per_group:
                group, rows = rows[: config.rows_per_group], rows[config.rows_per_group :]
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    tally.check(config.partitions, source)
    for kind, name in COUNTS_FILES.items():
        counts = sorted(tally.words[kind].items(), key=lambda item: (-item[1], item[0]))
        table = pyarrow.table(
            {
                kind: pyarrow.array([word for word, _ in counts], pyarrow.string()),
                "count": pyarrow.array([count for _, count in counts], pyarrow.int64()),
            }
        )
        pyarrow.parquet.write_table(table, folder / name)
    facts = {
        "format": FORMAT,
        "antcache": __version__,
        "source": source.name,
        "source_bytes": source.stat().st_size,
        "extractor": extractor.name,
        "settings": extractor.settings,
        **tally.facts(),
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    return facts


class _CorpusTally:
    """Rows of recipes, and counts of everything that passes."""

    def __init__(self) -> None:
        self.words: dict[str, Counter[str]] = {"verb": Counter(), "object": Counter()}
        self._counts: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._met: Counter[str] = Counter()

    def rows(
        self, recipes: Sequence[Recipe], extractor: Extractor, partitions: Sequence[str]
    ) -> list[dict[str, Any]]:
        """A row for each recipe of the partitions that has an action with an object."""
        self._met.update(recipe.partition for recipe in recipes)
        chosen = [r for r in recipes if not partitions or r.partition in partitions]
        actions = iter(extractor.actions([text for r in chosen for text in r.instructions]))
        rows = []
        for recipe in chosen:
            found = [action for _ in recipe.instructions for action in next(actions)]
            row = self._row(recipe, found)
            if row["n_actions"]:
                rows.append(row)
        return rows

    def _row(self, recipe: Recipe, found: list[ParsedAction]) -> dict[str, Any]:
        pairs = [(action.verb, action.object) for action in found if action.object is not None]
        verbs = [verb for verb, _ in pairs]
        objects = [thing for _, thing in pairs]
        self.words["verb"].update(verbs)
        self.words["object"].update(objects)
        self._counts["instructions"] += len(recipe.instructions)
        self._counts["pairs"] += len(pairs)
        self._counts["actions_without_object"] += len(found) - len(pairs)
        self._counts["recipes_without_pairs"] += not pairs
        self._written[recipe.partition] += bool(pairs)
        return {
            "id": recipe.id,
            "partition": recipe.partition,
            "title": recipe.title,
            "text": action_text(verbs, objects),
            "verbs": verbs,
            "objects": objects,
            "n_actions": len(pairs),
        }

    def check(self, partitions: Sequence[str], source: Path) -> None:
        """Every partition that was asked for has recipes, and some recipe has an action."""
        met = ", ".join(f"{name} ({count})" for name, count in self._met.items())
        for name in partitions:
            if name not in self._met:
                raise BadConfig(
                    f"no recipe of partition {name!r}", where=source, expected=f"one of {met}"
                )
        if not self._counts["pairs"]:
            raise BadAnnotations(
                "no instruction has a verb with an object",
                where=source,
                expected="imperative English such as 'Cut the onion.'",
            )

    def facts(self) -> dict[str, Any]:
        """The counts, JSON-ready."""
        counts = ("instructions", "pairs", "actions_without_object", "recipes_without_pairs")
        return {
            "recipes": self._written.total(),
            "partitions": {name: count for name, count in self._written.items() if count},
            **{name: self._counts[name] for name in counts},
            "verbs": len(self.words["verb"]),
            "objects": len(self.words["object"]),
        }
