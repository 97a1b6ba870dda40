"""A kitchen to browse: two splits, three streams of which one has gaps, a teacher, two runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import Predictions
from antcache.store import SoftTargets, Store

VERBS = ("take", "put", "open", "close", "wash", "cut", "dry", "pour")
NOUNS = ("pan", "cup", "tap", "cupboard door", "knife", "onion", "plate", "bowl")
HOSTILE = "\"><img src=x onerror=alert(1)><script>document.title='owned'</script>\u202eevil"


def kitchen_taxonomy(**changes: object) -> Taxonomy:
    """64 actions; the name of the last one is what somebody would like a browser to run."""
    pairs = [(v, n) for v in range(8) for n in range(8)]
    names = [f"{VERBS[v]} {NOUNS[n]}" for v, n in pairs]
    about: dict[str, object] = {
        "dataset": "kitchens",
        "verbs": VERBS,
        "nouns": NOUNS,
        "actions": (*names[:-1], HOSTILE),
        "action_verbs": tuple(v for v, _ in pairs),
        "action_nouns": tuple(n for _, n in pairs),
    }
    return Taxonomy(**{**about, **changes})  # type: ignore[arg-type]


def kitchen_segments(
    taxonomy: Taxonomy, split: str, videos: list[str], rng: np.random.Generator
) -> Segments:
    """Thirty segments a video, some of which overlap, the last of the hostile class."""
    starts, stops, names = [], [], []
    for video in videos:
        start = np.cumsum(rng.uniform(1.0, 6.0, 30)) + 2.0
        starts.append(start)
        stops.append(start + rng.uniform(0.6, 6.0, 30))
        names += [video] * 30
    action = rng.integers(0, len(taxonomy.actions), len(names))
    action[29::30] = len(taxonomy.actions) - 1
    return Segments.of(
        uid=[f"{split}-{i}" for i in range(len(names))],
        video=names,
        start_s=np.concatenate(starts),
        stop_s=np.concatenate(stops),
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        action=action,
    )


def scores_of(segments: Segments, classes: int, strength: float, seed: int) -> np.ndarray:
    """Random scores (N, C) that lean to the truth."""
    scores = np.random.default_rng(seed).normal(size=(len(segments), classes)).astype(np.float32)
    scores[np.arange(len(segments)), segments.action] += strength
    return scores


def write_run(store: Store, path: Path, strength: float, seed: int, split: str) -> Path:
    """A file of predictions of a split."""
    segments = store.labels(split)
    Predictions(
        uid=segments.uid,
        scores=scores_of(segments, len(store.taxonomy.actions), strength, seed),
        split=split,
        taxonomy=store.taxonomy.fingerprint,
    ).save(path)
    return path


def make_kitchen(folder: Path) -> Store:
    """The store `kitchen.zarr` in a folder, and the runs `plain` and `distilled` beside it."""
    rng = np.random.default_rng(0)
    taxonomy = kitchen_taxonomy()
    store = Store.create(folder / "kitchen.zarr")
    videos = {"train": [f"P01_{i:02d}" for i in range(8)], "validation": ["P02_01", "P02_02"]}
    for split, names in videos.items():
        segments = kitchen_segments(taxonomy, split, names, rng)
        store.write_labels(split, segments, taxonomy, source="test")
    every = [name for names in videos.values() for name in names]
    settings = {"dim": 4, "dtype": "float16", "config": {}}
    store.create_stream("rgb", fps=4.0, source="test", **settings)
    store.create_stream("flow", fps=2.0, source="test", **settings)
    for name in every[:-1]:  # the last video has no rows of flow, and is short of rgb
        seconds = np.arange(0, 140, 0.5)
        seconds = seconds[(seconds < 30) | (seconds > 52)]
        rows = rng.normal(size=(len(seconds), 4)).astype(np.float16)
        store.write_features("flow", name, rows, times=seconds)
        store.write_features("rgb", name, rng.normal(size=(560, 4)).astype(np.float16))
    store.write_features("rgb", every[-1], rng.normal(size=(200, 4)).astype(np.float16))
    store.create_stream("tokens", fps=2.0, source="test", grid=(1, 2, 2), **settings)
    store.write_features("tokens", every[0], rng.normal(size=(40, 4, 4)).astype(np.float16))
    segments = store.labels("train")
    targets = SoftTargets(
        uid=segments.uid,
        valid=np.arange(len(segments)) % 11 > 0,
        logits=scores_of(segments, 64, 3.0, 7),
        attributes={"taxonomy": taxonomy.fingerprint},
    )
    store.write_targets("sequence", targets)
    store.write_targets("sparse", targets.top_k(6))
    write_run(store, folder / "runs/plain/predictions.safetensors", 1.5, 1, "validation")
    write_run(store, folder / "runs/distilled/predictions.safetensors", 2.5, 2, "validation")
    return store
