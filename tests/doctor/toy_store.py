"""A store that is healthy but for what a test changes, and its findings by their kind."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Dataset, Protocol, Segments, Taxonomy
from antcache.doctor.report import DoctorReport, Finding
from antcache.store import SoftTargets, Store

TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take", "put"),
    nouns=("pan",),
    actions=("take_pan", "put_pan"),
    action_verbs=(0, 1),
    action_nouns=(0, 0),
)
VIDEOS, SECONDS, FPS, DIM = ("v1", "v2", "v3"), 30, 4.0, 5
WINDOW = Protocol(gap_s=1.0, num_frames=10, rate=2.0)


def split(prefix: str, videos: tuple[str, ...]) -> Segments:
    """In each video, a segment every three seconds from 0 s on; the first is too early."""
    columns = [
        (f"{prefix}{v}_{i}", v, 3.0 * i, 3.0 * i + 3, i % 2) for v in videos for i in range(10)
    ]
    uid, video, start_s, stop_s, action = zip(*columns, strict=True)
    return Segments.of(
        uid=uid,
        video=video,
        start_s=start_s,
        stop_s=stop_s,
        verb=action,
        noun=[0] * len(uid),
        action=action,
    )


TRAIN, VALIDATION = split("t", ("v1", "v2")), split("n", ("v3",))
ANNOTATIONS = Dataset(
    name="toy",
    taxonomy=TAXONOMY,
    splits={"train": TRAIN, "validation": VALIDATION},
    source="a test",
)
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(SECONDS * int(FPS), DIM)).astype(np.float16)

MakeStore = Callable[..., Store]


def soft_targets(segments: Segments, **changed: Any) -> SoftTargets:
    fields: dict[str, Any] = {
        "uid": segments.uid,
        "valid": np.ones(len(segments), bool),
        "logits": np.zeros((len(segments), 2), np.float32),
        "attributes": {"taxonomy": TAXONOMY.fingerprint},
    }
    return SoftTargets(**{**fields, **changed})


@pytest.fixture
def make(tmp_path: Path) -> MakeStore:
    """Function that writes a store, healthy but for the videos in `changed`: their rows, None for
    no video, or arguments of `write_features`."""
    number = itertools.count()

    def write(
        kind: str = "zarr",
        *,
        fps: float = FPS,
        compressed: bool = False,
        dtype: str = "float16",
        labels: bool = True,
        config: dict[str, Any] | None = None,
        **changed: Any,
    ) -> Store:
        store = Store.create(tmp_path / f"store{next(number)}", backend=kind)
        if labels:
            for name, segments in ANNOTATIONS.splits.items():
                store.write_labels(name, segments, TAXONOMY, source="a test")
            store.write_targets("oracle", soft_targets(TRAIN))
        store.create_stream(
            *("rgb",),
            dim=DIM,
            dtype=dtype,
            fps=fps,
            source="a test",
            config=config or {},
            compressed=compressed,
        )
        for video in VIDEOS:
            given = changed.get(video, {})
            if given is not None:
                fields = given if isinstance(given, dict) else {"rows": given}
                store.write_features("rgb", video, **{"rows": ROWS, **fields})
        return store

    return write


def only(report: DoctorReport, kind: str) -> Finding:
    """The one finding, which is of this kind."""
    assert [finding.kind for finding in report.findings] == [kind]
    assert report.ok != report.findings[0].missing
    return report.findings[0]


def kinds(report: DoctorReport) -> list[str]:
    return [finding.kind for finding in report.findings]
