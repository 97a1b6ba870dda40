"""The model card of a student: what it is, learned from, reaches, and is asked with, in Markdown.

Promise: every figure and setting is the run's own; what it did not keep is said to be unknown.
Names come from anybody: none of them is markup, on a page or in the card's head.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antcache.annotations import Taxonomy
from antcache.annotations.protocols import Protocol, anchor_name, before
from antcache.checks import check_type
from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.text import plain

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
"""A licence as the hub writes them: `apache-2.0`, `cc-by-nc-4.0`."""
UNKNOWN = "unknown"
SHOWN, CELL = 100, 300
"""Rows of a table, and characters of a cell."""
MARKS = re.compile(r"([\\`*_\[\]|<>~&$#!@]|:(?=//)|(?<=www)\.)")
"""What Markdown reads as more than itself within a line."""


def check_license(license_: str) -> str:
    """The licence, if it is written as the hub writes them.

    Raises:
        BadConfig: it is not.
    """
    check_type("license", license_, str)
    if not LICENSE.fullmatch(license_):
        raise BadConfig(
            "no licence's identifier",
            where="license",
            expected="such as apache-2.0, cc-by-nc-4.0, other or unknown",
            found=license_,
        )
    return license_


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a card tells.

    Attributes:
        name: of the student.
        license: as `check_license` has it.
        config: settings of the run.
        protocol: windows that it was trained on.
        taxonomy: its classes.
        streams: (name, source, fingerprint, settings) of each.
        result: what `result.json` says, empty where nothing was measured.
        computed_in: the precision that it was trained in, or empty.
        origin: what weights are that others have trained, empty for those of a run.
        num_parameters: of the student.
        files: name and meaning of each file beside the card.
    """

    name: str
    license: str
    config: StudentConfig
    protocol: Protocol
    taxonomy: Taxonomy
    streams: Sequence[tuple[str, str, str, Mapping[str, Any]]]
    result: Mapping[str, Any]
    computed_in: str
    origin: str
    num_parameters: int
    files: Mapping[str, str]


def write_card(about: Described) -> str:
    """The card's text, with the hub's settings in front."""
    head = about.config.model.head
    window = about.protocol
    parts = [
        _front(about),
        f"# {_said(about.name)}",
        f"A student of action anticipation for antcache. From {window.num_frames} rows "
        f"of features, {window.rate:g} a second, it says which of "
        f"{_said(about.taxonomy.counts)} {_asked(window)}. Head `{_code(head)}`, "
        f"{about.num_parameters:,} parameters.",
        "## Data",
        *_data(about),
        "## Protocol",
        _table(
            ("setting", "value"),
            [
                ("gap", f"{window.gap_s:g} s"),
                ("counted from", f"the {anchor_name(window.anchor)} of the action"),
                ("frames of a window", window.num_frames),
                ("frames per second", f"{window.rate:g}"),
                ("seconds observed", f"{window.observed_s:g}"),
                ("arithmetic of windows", window.parity),
            ],
        ),
        "## Features",
        "Rows of another fingerprint are refused.",
        _table(
            ("stream", "source", "fingerprint", "settings"),
            [
                (name, source or UNKNOWN, mark, json.dumps(dict(settings), sort_keys=True))
                for name, source, mark, settings in about.streams
            ],
        ),
        "## Figures",
        *_figures(about.result),
        "## Use",
        "```python\nfrom antcache.student import KeptStudent\n\n"
        'student = KeptStudent.load("FOLDER OR HUB ID")\n'
        f"# features: (B, {window.num_frames}, D), as the streams above have them\n"
        "logits = student.predictor(features).logits\n```",
        "## Licence",
        _license(about.license),
        "## Files",
        _table(("file", "what it is"), list(about.files.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _asked(window: Protocol) -> str:
    """What is asked of the classes, in a sentence."""
    if window.recognises:
        return "is under way"
    return f"comes next, {window.gap_s:g} s before {before(window.anchor)}"


def _front(about: Described) -> str:
    """YAML of texts in JSON's quotes, which YAML reads alike."""
    lines = [
        f"license: {json.dumps(about.license)}",
        'library_name: "antcache"',
        'pipeline_tag: "video-classification"',
        "tags:",
        '- "action-anticipation"',
        '- "antcache"',
        f"- {json.dumps(plain(about.config.model.head)[:64])}",
    ]
    return "\n".join(["---", *lines, "---"])


def _data(about: Described) -> list[str]:
    counts = about.result.get("counts")
    rows = []
    for split, of in counts.items() if isinstance(counts, Mapping) else ():
        if isinstance(of, Mapping):
            text = ", ".join(f"{name} {value}" for name, value in list(of.items())[:SHOWN])
            rows.append((split, text))
    said = f"Classes of {_said(about.taxonomy.dataset)}: {_said(about.taxonomy.counts)}. "
    if about.origin:
        return [f"{said}Weights of others: {_said(about.origin)}. What they saw is not known here."]
    config = about.config
    taught = ", ".join(config.distillation.targets) or "none"
    said += f"Trained on the split `{_code(config.data.train_split)}`, "
    said += f"scored on `{_code(config.data.validation_split)}`; soft targets: {_said(taught)}."
    if about.computed_in:
        said += f" Trained in {_said(about.computed_in)}."
    return [said, *([_table(("split", "what was seen"), rows)] if rows else [])]


def _figures(result: Mapping[str, Any]) -> list[str]:
    metrics = result.get("metrics")
    numbers = [
        (name, value)
        for name, value in (metrics.items() if isinstance(metrics, Mapping) else ())
        if type(value) in (int, float)
    ]
    if not numbers:
        return ["Nothing was measured: no figures came with these weights."]
    count = dict(numbers).get("n")
    of = f", {count:,} segments" if isinstance(count, int) else ""
    said = f"Percent, of the validation split{of}, by these weights"
    if isinstance(result.get("epoch"), int):
        said += f" (epoch {result['epoch']} of {_said(result.get('epochs', UNKNOWN))})"
    rows = [(name, f"{value:.2f}") for name, value in numbers if name != "n"]
    return [f"{said}.", _table(("measure", "value"), rows)]


def _license(license_: str) -> str:
    if license_ == UNKNOWN:
        return "Nobody has said under which licence these weights are."
    return f"`{license_}`"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    lines = [columns, ("---",) * len(columns)]
    lines += [tuple(_said(cell) for cell in row) for row in rows[:SHOWN]]
    if len(rows) > SHOWN:
        lines.append((f"and {len(rows) - SHOWN} more", *("",) * (len(columns) - 1)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _said(value: object) -> str:
    """Text from data as Markdown shows it: itself."""
    text = plain(value)
    text = text if len(text) <= CELL else f"{text[:CELL]} ..."
    return MARKS.sub(r"\\\1", text).replace("\\<", "&lt;").replace("\\&", "&amp;")


def _code(name: str) -> str:
    """A name between back-ticks, which it can't have itself."""
    return plain(name)[:CELL].replace("`", "'")
