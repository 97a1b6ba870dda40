"""Several commands at the same moment in one place: one does the work, the others say who does.

What comes out is that of one command alone, to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import Predictions
from antcache.store import Store
from antcache.store.integrity.verify import verify

Together = Callable[..., list[Any]]
CLASSES, DIM = 4, 6
SETTINGS = ("--epochs", 3, "--head", "mean", "--device", "cpu", "--batch-size", 8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Labels and features of four videos."""
    taxonomy = Taxonomy(
        dataset="tiny",
        verbs=("take", "cut"),
        nouns=("pan", "leek"),
        actions=tuple(f"action {i}" for i in range(CLASSES)),
        action_verbs=(0, 0, 1, 1),
        action_nouns=(0, 1, 0, 1),
    )
    store = Store.create(tmp_path / "tiny.zarr")
    store.create_stream("rgb", dim=DIM, dtype="float16", fps=4.0, source="made up", config={})
    rng = np.random.default_rng(0)
    for split, videos in (("train", ("a", "b", "c")), ("validation", ("d",))):
        action = rng.integers(CLASSES, size=10 * len(videos))
        start = np.tile(np.arange(10) * 3.0, len(videos))
        segments = Segments.of(
            uid=[f"{video}{i}" for video in videos for i in range(10)],
            video=np.repeat(videos, 10),
            start_s=start,
            stop_s=start + 3,
            verb=taxonomy.verb_of[action],
            noun=taxonomy.noun_of[action],
            action=action,
        )
        store.write_labels(split, segments, taxonomy, source="made up")
        for video in videos:
            rows = rng.standard_normal((120, DIM)).astype(np.float16)
            store.write_features("rgb", video, rows)
    return store


def scores(run: Path) -> np.ndarray[Any, Any]:
    return Predictions.load(run).scores


def test_trainings_in_one_run_folder(store: Store, tmp_path: Path, together: Together) -> None:
    def train(seed: int, run: Path) -> list[Any]:
        return ["student", "train", store.path, "--run", run, "--seed", seed, *SETTINGS]

    alone = [train(seed, tmp_path / f"alone-{seed}") for seed in range(3)]
    assert [done.code for done in together(*alone)] == [0, 0, 0]
    for number in range(2):
        run = tmp_path / f"run-{number}"
        ended = together(*(train(seed, run) for seed in range(3)))
        (winner,) = (seed for seed, each in enumerate(ended) if each.code == 0)
        for each in ended:
            if each.code:
                assert str(run) in each.refusal
                assert "another process is training this run" in each.refusal or (
                    "something is already here" in each.refusal  # it was done by then
                )
        config = json.loads((run / "config.json").read_text())
        assert config["student"]["seed"] == winner
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
        np.testing.assert_array_equal(scores(run), scores(tmp_path / f"alone-{winner}"))
        assert not (run / ".lock").exists()


def test_a_run_that_is_under_way_is_not_joined(
    store: Store, tmp_path: Path, together: Together, held_elsewhere: Any
) -> None:
    """Neither by a new training nor by one that would resume it."""
    run = tmp_path / "run"
    command = ["student", "train", store.path, "--run", run, *SETTINGS]
    run.mkdir()
    with held_elsewhere(run / ".lock"):
        (ended,) = together(command)
        line = f"Error: {run}: another process is training this run (choose another run)"
        assert ended.refusal == line
    assert [each.code for each in together(command)] == [0]
    with held_elsewhere(run / ".lock"):
        (ended,) = together([*command, "--resume"])
        assert ended.refusal == line


def write_plan(path: Path, seeds: list[int]) -> Path:
    base = "{epochs: 2, head: mean, device: cpu, batch_size: 8}"
    path.write_text(f"base: {base}\nseeds: {seeds}\ngrid: {{lr: [0.001, 0.01]}}\n")
    return path


def test_sweeps_in_one_folder(store: Store, tmp_path: Path, together: Together) -> None:
    plan = write_plan(tmp_path / "plan.yaml", [0, 1])
    members = [f"lr={lr}/seed-{seed}" for lr in (0.001, 0.01) for seed in (0, 1)]

    def sweep(runs: Path) -> list[Any]:
        return ["student", "sweep", store.path, plan, "--runs", runs]

    assert [each.code for each in together(sweep(tmp_path / "alone"))] == [0]
    runs = tmp_path / "sweep"
    ended = together(*[sweep(runs)] * 3)
    assert 0 in {each.code for each in ended}
    for each in ended:
        if each.code:
            assert f"{runs}: another process is training this sweep" in each.refusal
    for member in members:
        np.testing.assert_array_equal(scores(runs / member), scores(tmp_path / "alone" / member))
        assert len((runs / member / "metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads((runs / "table.json").read_text())["failed"] == {}


def test_a_sweep_that_is_under_way_is_not_joined(
    store: Store, tmp_path: Path, together: Together, held_elsewhere: Any
) -> None:
    """Nor does a sweep train a member that is being trained."""
    plan, runs = write_plan(tmp_path / "plan.yaml", [0]), tmp_path / "sweep"
    command = ["student", "sweep", store.path, plan, "--runs", runs]
    runs.mkdir()
    with held_elsewhere(runs / ".lock"):
        (ended,) = together(command)
        assert f"{runs}: another process is training this sweep" in ended.refusal
    member = runs / "lr=0.01" / "seed-0"
    member.mkdir(parents=True)
    with held_elsewhere(member / ".lock"):
        (ended,) = together(command)
        assert f"{member}: another process is training this run" in ended.refusal
    assert [each.code for each in together(command)] == [0]


def test_teachers_of_one_name(store: Store, tmp_path: Path, together: Together) -> None:
    for number in range(3):
        command = ["teacher", "train", store.path, "--name", f"t{number}", "--folds", 2]
        ended = together(*[command] * 3)
        assert 0 in {each.code for each in ended}
        for each in ended:
            if each.code:
                assert f"tiny.zarr.teachers/t{number}: another process is train" in each.refusal
        folder = tmp_path / "tiny.zarr.teachers"
        assert sorted(p.name for p in folder.iterdir()) == [f"t{n}" for n in range(number + 1)]
    teacher = folder / "t0"
    assert sorted(p.name for p in teacher.iterdir()) == [
        "made.json",
        "teacher.json",
        "teacher.safetensors",
    ]


# Imports


def write_table(folder: Path, *nouns: str, first: str = "pan") -> Path:
    """Two splits; every row of `validation` and `train` has the same first noun."""
    folder.mkdir()
    for split in ("train", "validation"):
        rows = "".join(
            f"{split}{i},{split},{i},{i + 1},take,{noun}\n"
            for i, noun in enumerate((first, *nouns))
        )
        (folder / f"{split}.csv").write_text(f"uid,video,start,stop,verb,noun\n{rows}")
    return folder


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_imports_of_different_datasets(tmp_path: Path, together: Together, name: str) -> None:
    table = write_table(tmp_path / "table", "cup")
    for number in range(4):
        path = tmp_path / f"{number}-{name}"
        command = ["annotations", "import", "table", table, path, "--name"]
        ended = together(*([*command, f"toy{n}"] for n in range(3)))
        (winner,) = (n for n, each in enumerate(ended) if each.code == 0)
        for n, each in enumerate(ended):
            if n != winner:
                text = f"another dataset: expected toy{winner}, found toy{n}"
                assert text in each.refusal
        store = Store.open(path)
        assert store.dataset == store.taxonomy.dataset == f"toy{winner}"
        assert store.splits() == ["train", "validation"]
        assert verify(store).intact


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_imports_of_one_dataset(tmp_path: Path, together: Together, name: str) -> None:
    """All find it equal; where one replaces it, splits of two imports are never beside another."""
    tables = [
        write_table(tmp_path / "one", "cup", first="pan"),
        write_table(tmp_path / "two", "pan", first="cup"),
    ]
    path = tmp_path / name
    command = ["annotations", "import", "table"]
    ended = together(*[[*command, tables[0], path]] * 4)
    assert [each.code for each in ended] == [0] * 4
    for _ in range(4):
        ended = together(*([*command, table, path, "--overwrite"] for table in (*tables, *tables)))
        assert [each.code for each in ended] == [0] * 4
        store = Store.open(path)
        first = [store.labels(split).noun[0] for split in store.splits()]
        assert len(first) == 2
        assert len(set(first)) == 1
        assert verify(store).intact


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_imports_under_different_names_of_splits(
    tmp_path: Path, together: Together, name: str
) -> None:
    """Of the same segments: one is there, and no segment is in two splits."""
    apart = write_table(tmp_path / "apart", "cup")
    (tmp_path / "whole").mkdir()
    head, *rows = (apart / "train.csv").read_text().splitlines()
    rows += (apart / "validation.csv").read_text().splitlines()[1:]
    (tmp_path / "whole" / "all.csv").write_text("\n".join((head, *rows)) + "\n")
    for number in range(4):
        path = tmp_path / f"{number}-{name}"
        command = ["annotations", "import", "table"]
        ended = together(*([*command, tmp_path / of, path] for of in ("apart", "whole", "apart")))
        store = Store.open(path)
        assert store.splits() in (["all"], ["train", "validation"])
        for each in ended:
            if each.code:
                assert "of these segments already" in each.refusal
