"""A tiny kitchen: a store whose next action follows from what can be seen."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from shelves import Shelf

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import Predictions
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import WEIGHTS, latest_checkpoint
from antcache.student.runs.train import RunResult, train
from antcache.student.sweeps.plan import Sweep
from antcache.student.training.loop import Trainer

CLASSES, DIM, FPS, SECONDS = 6, 12, 4.0, 3.0


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    torch.set_num_threads(1)


@contextmanager
def stopped_in_step(number: int) -> Iterator[None]:
    """What is trained inside is interrupted in its step of this number, from 0."""
    step, count = Trainer._step, itertools.count()

    def stop(self: Trainer, *batch: torch.Tensor) -> torch.Tensor:
        if next(count) == number:
            raise KeyboardInterrupt
        return step(self, *batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_step", stop)
        try:
            yield
        except KeyboardInterrupt:
            return
    raise AssertionError("nothing was interrupted")


def assert_same_run(one: RunResult, two: RunResult) -> None:
    """To the bit."""
    mine, theirs = one.model.state_dict(), two.model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name
    np.testing.assert_array_equal(one.predictions.scores, two.predictions.scores)
    assert one.history[-1]["loss"] == two.history[-1]["loss"]


def assert_equals_solo(store: Store, folder: Path, plan: Sweep) -> None:
    """Each member of a sweep, up to rounding."""
    for name, config in plan.members():
        solo = train(store, None, config)
        checkpoint = latest_checkpoint(folder / name / "checkpoint")
        assert checkpoint is not None
        if not config.optimization.ema:
            for key, value in load_file(checkpoint / WEIGHTS).items():
                alone = solo.model.state_dict()[key]
                if key.endswith("attention_in.bias"):
                    # That of the keys changes no score: its gradient is rounding, and Adam's step
                    # of it is as long as any.
                    value, alone = (torch.cat(b.chunk(3)[::2]) for b in (value, alone))
                torch.testing.assert_close(value, alone, rtol=1e-4, atol=2e-6, msg=f"{name} {key}")
        scores = Predictions.load(folder / name).scores
        np.testing.assert_allclose(scores, solo.predictions.scores, rtol=1e-4, atol=1e-5)
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        for line, record in zip(lines, solo.history, strict=True):
            for key in ("loss", "distillation_loss", "gradient_norm", "lr"):
                assert json.loads(line)[key] == pytest.approx(record[key], rel=1e-4, abs=1e-7), key


def tiny_taxonomy() -> Taxonomy:
    return Taxonomy(
        dataset="tiny",
        verbs=("take", "cut"),
        nouns=("pan", "leek", "salt"),
        actions=tuple(f"action {i}" for i in range(CLASSES)),
        action_verbs=(0, 0, 0, 1, 1, 1),
        action_nouns=(0, 1, 2, 0, 1, 2),
    )


def tiny_split(prefix: str, num_videos: int, length: int, rng: np.random.Generator) -> Segments:
    """Segments of SECONDS each without pause; the action after `a` is `a + 1`, seldom another."""
    taxonomy, columns = tiny_taxonomy(), []
    for v in range(num_videos):
        action = int(rng.integers(CLASSES))
        for i in range(length):
            start = i * SECONDS
            columns.append((f"{prefix}{v}_{i}", f"{prefix}{v}", start, start + SECONDS, action))
            action = (action + 1) % CLASSES if rng.random() < 0.9 else int(rng.integers(CLASSES))
    uid, video, start_s, stop_s, action_ids = zip(*columns, strict=True)
    ids = np.asarray(action_ids)
    return Segments.of(
        uid=uid,
        video=video,
        start_s=start_s,
        stop_s=stop_s,
        verb=taxonomy.verb_of[ids],
        noun=taxonomy.noun_of[ids],
        action=ids,
    )


def write_features(store: Store, segments: Segments, directions: np.ndarray, seed: int) -> None:
    """Rows that show the action under way, and noise."""
    rng = np.random.default_rng(seed)
    for video in segments.videos:
        own = segments[segments.video == video]
        seconds = np.arange(int(own.stop_s.max() * FPS)) / FPS
        under_way = own.action[(seconds[:, None] >= own.start_s).sum(axis=1) - 1]
        rows = directions[under_way] + 0.3 * rng.standard_normal((len(seconds), DIM))
        store.write_features("rgb", video, rows.astype(np.float16))


def oracle_targets(segments: Segments, **changes: Any) -> SoftTargets:
    """Soft targets that know the truth."""
    logits = np.zeros((len(segments), CLASSES), dtype=np.float32)
    logits[np.arange(len(segments)), segments.action] = 4.0
    fields: dict[str, Any] = {
        "uid": segments.uid,
        "valid": np.ones(len(segments), dtype=bool),
        "logits": logits,
        "attributes": {"taxonomy": tiny_taxonomy().fingerprint},
    }
    return SoftTargets(**{**fields, **changes})


MakeStore = Callable[..., Store]


@pytest.fixture
def make_store(tmp_path: Path, shelf: Shelf) -> MakeStore:
    """Function that writes a store; `relabel` changes the training labels after the fact."""

    def write(
        path: Path,
        backend: str,
        num_videos: int,
        length: int,
        relabel: Callable[[Segments], Segments],
    ) -> Store:
        rng = np.random.default_rng(1)
        store = Store.create(path, backend=backend)
        directions = rng.standard_normal((CLASSES, DIM))
        store.create_stream("rgb", dim=DIM, dtype="float16", fps=FPS, source="made up", config={})
        for split, videos in (("train", num_videos), ("validation", 3)):
            segments = tiny_split(split[0], videos, length, rng)
            write_features(store, segments, directions, seed=videos)
            labels = relabel(segments) if split == "train" else segments
            store.write_labels(split, labels, tiny_taxonomy(), source="made up")
            if split == "train":
                store.write_targets("oracle", oracle_targets(segments))
        return store

    def make(
        name: str = "store",
        backend: str = "zarr",
        *,
        num_videos: int = 6,
        length: int = 8,
        relabel: Callable[[Segments], Segments] | None = None,
    ) -> Store:
        form = backend, num_videos, length
        if relabel:
            return write(tmp_path / name, *form, relabel)
        return shelf.store(
            tmp_path / name, ("tiny kitchen", *form), lambda path: write(path, *form, lambda s: s)
        )

    return make


MakeRun = Callable[[StudentConfig], tuple[Store, Path, RunResult]]


@pytest.fixture
def make_run(make_store: MakeStore, tmp_path: Path, shelf: Shelf) -> MakeRun:
    """Function: a store, the folder of a run on it, and its result, which tests leave as it is."""

    def make(config: StudentConfig) -> tuple[Store, Path, RunResult]:
        store, run = make_store(), tmp_path / "run"
        key = "run in the tiny kitchen", str(config.to_dict())
        return store, run, shelf.copied(run, key, lambda place: train(store, place, config))

    return make


@pytest.fixture
def small() -> StudentConfig:
    """A student that trains in well under a second, in one precision on all machines."""
    return StudentConfig.of(
        layers=1,
        heads=2,
        width=16,
        dropout=0.1,
        epochs=3,
        batch_size=8,
        lr=3e-3,
        device="cpu",
        precision="float32",
    )
