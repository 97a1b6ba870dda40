"""Gaps: every result says its own, as it says its anchor, and two are never put together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_predictions import made, rewritten

from antcache import Store as PublicStore
from antcache.annotations import Taxonomy
from antcache.cli.main import cli
from antcache.errors import BadCheckpoint, BadConfig, FingerprintMismatch
from antcache.evaluation import Predictions
from antcache.evaluation.predictions import HELD_OUT
from antcache.evaluation.submission.challenges import submission
from antcache.store import SoftTargets, Store
from antcache.tensors import read_tensors

GAPS = {"one": 1.0, "half": 0.5, "unsaid": None}
FEW = ("--over", "all", "--bootstrap", 10, "--cluster", "segment")


@pytest.fixture
def files(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of each gap, with held-out predictions, a second one of a second, and teachers."""
    monkeypatch.chdir(tmp_path)
    for name, gap_s in (GAPS | {"again": 1.0 + 1e-9}).items():
        made(store, gap_s=gap_s).save(Path(name, "predictions.safetensors"))
        made(store, "train", gap_s=gap_s).save(Path(name, HELD_OUT))
    targets(store, "late", history="observed", gap_s=0.5)
    targets(store, "all", history="complete", gap_s=0.5)
    targets(store, "mixed", history="observed", gap_s="mixed")


def targets(store: Store, name: str, **said: object) -> None:
    labels = store.labels("validation")
    made_up = SoftTargets(
        uid=labels.uid,
        valid=np.ones(len(labels), dtype=bool),
        logits=made(store).scores,
        attributes={"taxonomy": store.taxonomy.fingerprint, **said},
    )
    store.write_targets(name, made_up)


def invoke(store: Store, word: str, *words: object) -> Result:
    return CliRunner().invoke(cli, [word, str(store.path), *map(str, words)])


@pytest.mark.parametrize("gap_s", [*GAPS.values(), 1 / 3, 0.0])
def test_a_file_says_its_gap(store: Store, tmp_path: Path, gap_s: float | None) -> None:
    made(store, gap_s=gap_s).save(tmp_path / "p")
    assert Predictions.load(tmp_path / "p").gap_s == gap_s
    assert ("gap_s" in read_tensors(tmp_path / "p").metadata) == (gap_s is not None)


@pytest.mark.parametrize("said", ["soon", "-1", "NaN", "true", "[1]", '"1"', ""])
def test_a_file_that_says_nonsense_is_refused(store: Store, tmp_path: Path, said: str) -> None:
    made(store, gap_s=1.0).save(tmp_path / "p")
    rewritten(tmp_path / "p", gap_s=said)
    with pytest.raises(BadCheckpoint, match="can't be read"):
        Predictions.load(tmp_path / "p")


def test_impossible_gaps(store: Store) -> None:
    for gap_s in (-1.0, float("inf"), "1"):
        with pytest.raises(BadConfig, match="gap_s"):
            made(store, gap_s=gap_s)
    targets(store, "odd", history="observed", gap_s=-1)
    done = invoke(store, "evaluate", "--targets", "odd")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "gap_s" in done.stderr


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "file"),
    [
        (("compare", "one", "half", *FEW), "half"),
        (("compare", "half", "one", *FEW), "one"),
        (("compare", "--a=one", "--b=again", "--a=half", "--b=half", *FEW), "half"),
        (("compare", "one", "again", "--teacher", "targets/late", *FEW), "targets/late"),
        (("compare", "unsaid", "one", "--teacher", "half", *FEW), "half"),
        (("report", "one", "half", "-o", "out", *FEW), "half"),
        (("fuse", "one", "again", "half", "-o", "out"), "half"),
        (("fuse", "unsaid", "one", "targets/late", "-o", "out"), "targets/late"),
        (
            (
                *("fuse", "one", "again", "-o", "out", "--weights", "held-out"),
                *("--held-out-predictions", f"half/{HELD_OUT}") * 2,
            ),
            f"half/{HELD_OUT}",
        ),
    ],
)
def test_two_gaps_are_not_put_together(store: Store, words: tuple[object, ...], file: str) -> None:
    done = invoke(store, str(words[0]), *words[1:])
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {file}: predictions for another gap")
    assert "0.5 s" in done.stderr
    assert "1 s" in done.stderr
    assert not Path("out").exists()


@pytest.mark.usefixtures("files")
def test_commands_say_the_gap(store: Store) -> None:
    """They say it, `evaluate` of each; what says none goes with any, and takes that of others."""
    told = json.loads(invoke(store, "evaluate", *GAPS, "--targets=late", "--json").stdout)
    assert [each["gap_s"] for each in told] == [1.0, 0.5, None, 0.5]
    text = " ".join(invoke(store, "evaluate", *GAPS).stdout.split())
    for said in ("one, anchor start, gap 1 s", "half, anchor start, gap 0.5 s", "gap unknown"):
        assert said in text
    for one, other in (("unsaid", "half"), ("half", "unsaid"), ("half", "targets/mixed")):
        told = json.loads(invoke(store, "compare", one, other, *FEW, "--json").stdout)
        assert told["gap_s"] == 0.5
    text = invoke(store, "compare", "one", "again", "--teacher=targets/all", *FEW).stdout
    assert "anchor start, gap 1 s" in " ".join(text.split())
    assert invoke(store, "report", "half", "half", *FEW, "-o", "page").exit_code == 0
    assert "(anchor start, gap 0.5 s)" in Path("page").read_text("utf-8")
    assert invoke(store, "fuse", "unsaid", "half", "-o", "fused").exit_code == 0
    assert Predictions.load("fused").gap_s == 0.5
    labels = store.labels("validation")
    own = PublicStore.open(store.path).predictions(
        "validation", labels.uid, made(store).scores, gap_s=0.5
    )
    assert own.gap_s == 0.5


def test_submissions_have_not_seen_more(taxonomy: Taxonomy, store: Store) -> None:
    """A challenge says the shortest gap; whoever saw less may take part."""
    ek55 = replace(
        taxonomy,
        dataset="epic-kitchens-55",
        verbs=tuple(f"v{i}" for i in range(125)),
        nouns=tuple(f"n{i}" for i in range(352)),
    )

    def submitted(gap_s: float | None) -> None:
        given = made(store, taxonomy=ek55.fingerprint, gap_s=gap_s)
        submission(given, ek55, "ek55", [*given.uid.tolist(), "unknown"], name="s1")

    with pytest.raises(FingerprintMismatch, match=r"s1: .*another gap.*expected 1 s, found 0.5 s"):
        submitted(0.5)
    for gap_s in (1.0, 2.0, None):  # these come as far as the segment that is not predicted
        with pytest.raises(ValueError, match="have no prediction"):
            submitted(gap_s)
