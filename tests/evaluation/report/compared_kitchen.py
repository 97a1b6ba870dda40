"""A kitchen with two runs of each side, and a reader of the pages that compare them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import Predictions
from antcache.evaluation.comparing.compare import CompareConfig
from antcache.evaluation.sheet import BootstrapConfig
from antcache.store import SoftTargets, Store

QUICK = CompareConfig(over="all", sampling=BootstrapConfig(resamples=40), examples=2)
TRUTH = (0, 0, 2, 3, 0, 1, 1, 4)
A = (0, 1, 2, 0, 1, 1, 0, 0)  # right: 0, 2, 5
B = (0, 0, 1, 0, 0, 1, 1, 0)  # right: 0, 1, 4, 5, 6; fixed 1, 4, 6; broken 2
T = (1, 0, 0, 3, 0, 1, 0)  # of s0 to s6, right: 1, 3, 4, 5; s7 has none


def one_hot(*best: int) -> np.ndarray:
    """Scores (n, 5) whose best class is given; then the others by id."""
    scores = -np.tile(np.arange(5, dtype=np.float32), (len(best), 1))
    scores[np.arange(len(best)), best] = 5.0
    return scores


def save(store: Store, path: Path, scores: np.ndarray, uids: range = range(8)) -> str:
    Predictions(
        uid=np.array([f"s{i}" for i in uids]),
        scores=scores,
        split="validation",
        taxonomy=store.taxonomy.fingerprint,
    ).save(path)
    return str(path)


def run(store: Store, folder: Path, scores: np.ndarray, losses: list[float]) -> str:
    """The folder of a run with metrics of each epoch."""
    folder.mkdir()
    save(store, folder / "predictions.safetensors", scores)
    lines = [
        {"epoch": e, "loss": loss, "action_loss": loss, "validation": {"action/top1": 10.0 * e}}
        for e, loss in enumerate(losses, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


@dataclass(frozen=True)
class Kitchen:
    """A store and two runs of each side in it."""

    store: Store
    a: tuple[str, str]
    b: tuple[str, str]
    folder: Path


@pytest.fixture
def kitchen(tmp_path: Path, taxonomy: Taxonomy) -> Kitchen:
    """Eight segments in four videos, one of them named to be escaped."""
    action = np.array(TRUTH)
    segments = Segments.of(
        uid=[f"s{i}" for i in range(8)],
        video=["v<1>", "v<1>", "w", "w", "x", "x", "y", "y"],
        start_s=np.arange(8) + 2.0,
        stop_s=np.arange(8) + 3.5,
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )
    store = Store.create(tmp_path / "kitchen")
    store.write_labels("validation", segments, taxonomy, source="test")
    targets = SoftTargets(
        uid=np.array([f"s{i}" for i in range(7)]),
        valid=np.ones(7, dtype=bool),
        logits=one_hot(*T),
        attributes={"taxonomy": taxonomy.fingerprint},
    )
    store.write_targets("count", targets)
    a, b = one_hot(*A), one_hot(*B)
    a[:, 4] = -np.inf  # A never ranks class 4, which B gains
    return Kitchen(
        store=store,
        a=(
            run(store, tmp_path / "a0", a, [3.0, 2.0, 1.0]),
            run(store, tmp_path / "a1", a, [3.5, 2.5, 1.5]),
        ),
        b=(
            run(store, tmp_path / "b0", b, [4.0, 2.0, 0.5]),
            run(store, tmp_path / "b1", b, [4.0, 2.0, 0.7]),
        ),
        folder=tmp_path,
    )


class Reader(HTMLParser):
    """Checks that every element is closed, and collects what is needed."""

    VOID = frozenset({"meta", "link", "img", "rect", "polyline", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.counts: dict[str, int] = {}
        self.links: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key == "aria-labelledby":
                self.refers += (value or "").split()
            if key in ("src", "href", "srcset", "action", "data", "xlink:href"):
                self.links.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag
