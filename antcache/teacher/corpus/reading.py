"""A corpus of action text, read back some rows at a time.

Promise: what is wrong with the folder is said when a function is called, not when its result is
walked; a partition that the corpus lacks is an error, not an empty result.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from antcache.errors import BadAnnotations, BadConfig, NotFound, needs
from antcache.interop.arrays.parquet_pages import check_parquet
from antcache.teacher.corpus.build import FACTS_FILE, FORMAT, RECIPES_FILE
from antcache.untrusted import NotFetched, check_fetched, read_json


def corpus_facts(folder: Path) -> dict[str, Any]:
    """What `corpus.json` says: extractor, partitions, counts.

    Raises:
        NotFound: there is no corpus at `folder`.
        BadAnnotations: it is of another format, or damaged.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        raise NotFound("no corpus here", where=folder, hint="antcache teacher corpus")
    try:
        facts = read_json(path)
    except ValueError as error:
        raise BadAnnotations("the facts can't be read", where=path, found=error) from error
    found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
    if found != FORMAT or not isinstance(facts.get("partitions"), dict):
        raise BadAnnotations("unknown format of corpus", where=path, expected=FORMAT, found=found)
    return dict(facts)


def read_corpus(folder: Path, partition: str | None = None) -> Iterator[str]:
    """The action text of each recipe, `cut <v> onion <a> add <v> salt`, in the corpus's order.

    Args:
        folder: a corpus.
        partition: only recipes of this one; None for all.

    Raises:
        NotFound, BadAnnotations: there is no corpus, or it is damaged.
        BadConfig: the corpus has no such partition.
        MissingExtra: pyarrow is not installed.
    """
    rows = _rows(folder, partition, ["text"])
    return (row["text"] for row in rows)


def read_actions(
    folder: Path, partition: str | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Verbs and objects of each recipe, equally many, to write text of another form.

    Args, Raises: as `read_corpus`.
    """
    rows = _rows(folder, partition, ["verbs", "objects"])
    return ((row["verbs"], row["objects"]) for row in rows)


def _rows(folder: Path, partition: str | None, columns: list[str]) -> Iterator[dict[str, Any]]:
    with needs("pyarrow", "corpus"):
        import pyarrow
        import pyarrow.parquet
    known = corpus_facts(folder)["partitions"]
    if partition is not None and partition not in known:
        raise BadConfig(
            "the corpus has no such partition",
            where=folder,
            expected=", ".join(known),
            found=partition,
        )
    path = folder / RECIPES_FILE
    if not path.is_file():
        raise NotFound("the corpus lacks its recipes", where=path)
    try:
        check_fetched(path)
        file = pyarrow.parquet.ParquetFile(path)
        missing = {*columns, "partition"} - set(file.schema_arrow.names)
    except NotFetched as error:
        raise BadAnnotations("the recipes can't be read", where=path, found=error) from error
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _damaged(path, error) from error
    if missing:
        raise _damaged(path, f"no column {', '.join(sorted(missing))}")
    return _walk(file, path, partition, columns)


def _walk(
    file: Any, path: Path, partition: str | None, columns: list[str]
) -> Iterator[dict[str, Any]]:
    import pyarrow

    columns = [*columns, "partition"]
    try:
        with file:
            rows = check_parquet(path, file.metadata, columns)
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                for row in batch.to_pylist():
                    if partition is None or row["partition"] == partition:
                        yield row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, found: object) -> BadAnnotations:
    text = " ".join(str(found).split())[:200]
    return BadAnnotations(
        "the corpus is damaged", where=path, found=text, hint="write it again with --overwrite"
    )
