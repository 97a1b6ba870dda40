"""Anchors: every result says its own, and two are never put together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_predictions import made, rewritten

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.protocols import Protocol, sample_windows
from antcache.cli.main import cli
from antcache.errors import BadCheckpoint, BadConfig, FingerprintMismatch
from antcache.evaluation import Predictions, evaluate
from antcache.evaluation.denominators import counted
from antcache.evaluation.online import OnlineClock, evaluate_online, moved
from antcache.evaluation.predictions import HELD_OUT
from antcache.evaluation.scoring import Detail
from antcache.evaluation.submission.challenges import submission
from antcache.store import SoftTargets, Store
from antcache.tensors import read_tensors

ANCHORS = {"start": 0.0, "end": 1.0, "third": 1 / 3}


@pytest.fixture
def files(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of each anchor, with held-out predictions, and a second one of the start."""
    monkeypatch.chdir(tmp_path)
    for name, anchor in (ANCHORS | {"again": 0.0}).items():
        made(store, anchor=anchor).save(Path(name, "predictions.safetensors"))
        made(store, "train", anchor=anchor).save(Path(name, HELD_OUT))


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("anchor", ANCHORS.values())
def test_a_file_says_its_anchor(store: Store, tmp_path: Path, anchor: float) -> None:
    made(store, anchor=anchor).save(tmp_path / "p")
    assert Predictions.load(tmp_path / "p").anchor == anchor
    said = {0.0: "start", 1.0: "end"}.get(anchor, "0.3333333333333333")
    assert read_tensors(tmp_path / "p").metadata["anchor"] == said


def test_a_file_that_says_none_counts_as_start(store: Store, tmp_path: Path) -> None:
    made(store, anchor=1.0).save(tmp_path / "p")
    rewritten(tmp_path / "p", anchor=None)
    assert Predictions.load(tmp_path / "p").anchor == 0


@pytest.mark.parametrize("said", ["middle", "2", "nan", "", "-0.5"])
def test_a_file_that_says_nonsense_is_refused(store: Store, tmp_path: Path, said: str) -> None:
    made(store).save(tmp_path / "p")
    rewritten(tmp_path / "p", anchor=said)
    with pytest.raises(BadCheckpoint, match=r"can't be read.*anchor"):
        Predictions.load(tmp_path / "p")


@pytest.mark.parametrize("anchor", [-0.1, 1.5, float("nan"), "end", None])
def test_impossible_anchors(store: Store, anchor: object) -> None:
    with pytest.raises(BadConfig, match="anchor"):
        made(store, anchor=anchor)


@pytest.mark.parametrize("said", ["end", 2, [1.0], True])
def test_soft_targets_that_say_nonsense_are_refused(store: Store, said: object) -> None:
    targets(store, "odd", said)
    done = invoke("evaluate", store.path, "--targets", "odd")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "anchor" in done.stderr


def targets(store: Store, name: str, anchor: object) -> None:
    labels = store.labels("validation")
    made_up = SoftTargets(
        uid=labels.uid,
        valid=np.ones(len(labels), dtype=bool),
        logits=made(store).scores,
        attributes={"taxonomy": store.taxonomy.fingerprint, "anchor": anchor},
    )
    store.write_targets(name, made_up)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "file"),
    [
        (("compare", "start", "end"), "end"),
        (("compare", "end", "start"), "start"),
        (("compare", "start", "third"), "third"),
        (("compare", "--a=start", "--b=again", "--a=end", "--b=end"), "end"),
        (("compare", "--a=start", "--b=again", "--a=start", "--b=end"), "end"),
        (("compare", "start", "again", "--teacher", "end"), "end"),
        (("compare", "start", "again", "--teacher", "targets/late"), "targets/late"),
        (("report", "start", "end", "-o", "out"), "end"),
        (("report", "start", "again", "--teacher", "end", "-o", "out"), "end"),
        (("fuse", "start", "again", "end", "-o", "out"), "end"),
        (("fuse", "start", "targets/late", "-o", "out"), "targets/late"),
        (
            (
                *("fuse", "start", "again", "-o", "out", "--weights", "held-out"),
                *("--held-out-predictions", f"end/{HELD_OUT}") * 2,
            ),
            f"end/{HELD_OUT}",
        ),
    ],
)
def test_two_anchors_are_not_put_together(store: Store, words: tuple[str, ...], file: str) -> None:
    targets(store, "late", 1.0)
    few = ("--over", "all", "--bootstrap", 10) if words[0] != "fuse" else ()
    done = invoke(words[0], store.path, *words[1:], *few)
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {file}: predictions for another anchor")
    assert not Path("out").exists()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ANCHORS)
def test_commands_say_the_anchor(store: Store, name: str) -> None:
    """Of one anchor they take whatever is given, and say which it is."""
    said = {"third": "0.3333333333333333"}.get(name, name)
    few = ("--over", "all", "--bootstrap", 10, "--cluster", "segment")
    (found,) = json.loads(invoke("evaluate", store.path, name, "--json").stdout)
    assert found["anchor"] == said
    found = json.loads(invoke("compare", store.path, name, name, *few, "--json").stdout)
    assert found["anchor"] == said
    assert ("Not to be put beside" in " ".join(found["notes"])) == (name != "start")
    text = " ".join(invoke("evaluate", store.path, name).stdout.split())
    assert f"anchor {said}" in text
    assert ("Not to be put beside figures of the usual task" in text) == (name != "start")
    text = " ".join(invoke("compare", store.path, name, name, *few).stdout.split())
    assert f"anchor {said}" in text
    assert invoke("report", store.path, name, name, *few, "-o", "page").exit_code == 0
    assert f"(anchor {said}, gap unknown)" in Path("page").read_text("utf-8")
    assert invoke("fuse", store.path, name, name, "-o", "fused").exit_code == 0
    assert Predictions.load("fused").anchor == ANCHORS[name]


def test_submissions_are_of_the_start(taxonomy: Taxonomy, store: Store) -> None:
    """What another anchor has seen is no anticipation to a leaderboard."""
    ek55 = replace(
        taxonomy,
        dataset="epic-kitchens-55",
        verbs=tuple(f"v{i}" for i in range(125)),
        nouns=tuple(f"n{i}" for i in range(352)),
    )
    given = made(store, taxonomy=ek55.fingerprint, anchor=1.0)
    with pytest.raises(FingerprintMismatch, match=r"s1: predictions for another anchor.*found end"):
        submission(given, ek55, "ek55", given.uid.tolist(), name="s1")


def test_segments_count_by_their_anchor(segments: Segments) -> None:
    """They start at 1, 2, 3, 4 s and last a second: a gap of a second leaves out the first."""
    at_start = Protocol(gap_s=1.0, num_frames=1, rate=1.0)
    assert counted(segments, "avt", at_start).tolist() == [False, True, True, True]
    assert counted(segments, "avt", replace(at_start, anchor=1.0)).all()
    early = replace(segments, start_s=segments.start_s - 0.8, stop_s=segments.stop_s - 0.8)
    assert not counted(early, "rulstm", at_start)[0]  # 0.2 s
    assert counted(early, "rulstm", replace(at_start, anchor=1.0)).all()


def test_figures_are_over_what_its_anchor_lets_see(store: Store) -> None:
    for anchor, n in ((0.0, 3), (1.0, 4)):
        result = evaluate(store, made(store, anchor=anchor), "p", detail=Detail())
        assert (result.anchor, result.sheet.counted["avt"].n if result.sheet else None) == (
            *(anchor, n),
        )


def test_streaming_is_due_at_the_anchor(segments: Segments, taxonomy: Taxonomy) -> None:
    protocol = Protocol(gap_s=0.5, num_frames=1, rate=1.0, anchor=0.75)
    ends = np.array([0.5, 1.2, 2.0, 2.9])
    shifted = moved(segments, ends, protocol.gap_s, protocol.anchor)
    frames = sample_windows(shifted.start_s, protocol, shifted.stop_s).frames[:, 0]
    assert frames.tolist() == [15, 36, 60, 87]
    np.testing.assert_allclose(shifted.stop_s - shifted.start_s, 1)
    asked = []

    def predict(given: Segments) -> Predictions:
        asked.append(given)
        scores = np.zeros((len(given), 5), dtype=np.float32)
        return Predictions(
            uid=given.uid, scores=scores, split="x", taxonomy=taxonomy.fingerprint, anchor=0.75
        )

    clock = OnlineClock(latency_s=1.0)
    found = evaluate_online(segments, taxonomy, 0.5, clock, predict, anchor=protocol.anchor)
    # Due at 1.25, 2.25, ...; a second of work: what is seen ends at 0.25, 1.25, ...
    np.testing.assert_allclose(asked[0].start_s + 0.75 - 0.5, [0.25, 1.25, 2.25, 3.25])
    assert (found.not_ready, found.age_s) == (0, pytest.approx(1.0))
