"""Submission files: content by hand, lists of segments, schema refusals, the command."""

from __future__ import annotations

import copy
import errno
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.annotations import Segments, Taxonomy
from antcache.cli.evaluation.submit import submit as command
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    BadPredictions,
    MissingExtra,
    WriteFailed,
)
from antcache.evaluation import Predictions
from antcache.evaluation.submission.challenges import check_submission, submission
from antcache.store import Store

SIZES = {"ek55": ("epic-kitchens-55", 125, 352), "ek100": ("epic-kitchens-100", 97, 300)}
UIDS = {"ek55": ["7", "12", "3"], "ek100": ["P01_11_0", "P18_02_5", "P01_101_31"]}
ACTIONS = 120


def taxonomy_of(challenge, more_nouns=0):
    dataset, verbs, nouns = SIZES[challenge]
    nouns += more_nouns
    ids = range(ACTIONS)
    return Taxonomy(
        dataset=dataset,
        verbs=tuple(f"v{i}" for i in range(verbs)),
        nouns=tuple(f"n{i}" for i in range(nouns)),
        actions=tuple(f"a{i}" for i in ids),
        action_verbs=tuple(i % 3 for i in ids),
        action_nouns=tuple(i // 3 for i in ids),
    )


def predictions_of(challenge, uids=None, **changes):
    uids = UIDS[challenge] if uids is None else uids
    scores = np.random.default_rng(0).standard_normal((len(uids), ACTIONS)).astype(np.float32)
    fields = {"split": "test", "taxonomy": taxonomy_of(challenge).fingerprint}
    return Predictions(**{"uid": np.array(uids), "scores": scores, **fields, **changes})


@pytest.mark.parametrize("challenge", ["ek55", "ek100"])
def test_content_by_hand(challenge, tmp_path):
    given = predictions_of(challenge)
    levels = (1, 4, 3) if challenge == "ek100" else None
    uids = UIDS[challenge][::-1]
    made = submission(given, taxonomy_of(challenge), challenge, uids, levels=levels)
    made.save(tmp_path / "s.json")
    read = json.loads((tmp_path / "s.json").read_text())
    assert read == made.content
    if challenge == "ek100":
        assert (read["version"], read["sls_pt"], read["sls_tl"], read["sls_td"]) == ("0.2", 1, 4, 3)
    else:
        assert read["version"] == "0.1"
        assert not [key for key in read if key.startswith("sls")]
    assert list(read["results"]) == uids
    entry = read["results"][uids[0]]
    assert (len(entry["verb"]), len(entry["noun"])) == SIZES[challenge][1:]
    p = np.exp(given.scores[2].astype(float))
    p /= p.sum()
    assert entry["verb"]["1"] == pytest.approx(p[1::3].sum(), rel=1e-6)
    assert entry["noun"]["39"] == pytest.approx(p[117:].sum(), rel=1e-6)
    assert entry["verb"]["90"] == 0
    best = np.argsort(-p)[:100]
    assert list(entry["action"]) == [f"{i % 3},{i // 3}" for i in best]
    np.testing.assert_allclose(list(entry["action"].values()), p[best], rtol=1e-6)
    again = submission(given, taxonomy_of(challenge), challenge, uids, levels=levels)
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "s.json").read_bytes()


def test_own_verb_and_noun_scores():
    verbs = np.zeros((3, 125), dtype=np.float32)
    nouns = np.zeros((3, 352), dtype=np.float32)
    verbs[0, 90] = np.log(126)
    given = predictions_of("ek55", verb_scores=verbs, noun_scores=nouns)
    made = submission(given, taxonomy_of("ek55"), "ek55", ["7"])
    entry = made.content["results"]["7"]
    assert entry["verb"]["90"] == pytest.approx(126 / 250, rel=1e-6)
    assert entry["noun"]["351"] == pytest.approx(1 / 352, rel=1e-6)
    assert made.unused == 2


def test_a_failure_leaves_the_file_that_was_there_and_no_other(tmp_path, monkeypatch):
    uids = UIDS["ek55"]
    made = submission(predictions_of("ek55"), taxonomy_of("ek55"), "ek55", uids)
    path = tmp_path / "deep" / "s.json"

    def half(self, text, *_):
        with self.open("w") as file:
            file.write(text[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    def refused(overwrite):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", half)
            with pytest.raises(WriteFailed, match=r"s\.json: can't be written \(No space left"):
                made.save(path, overwrite=overwrite)

    refused(overwrite=False)
    assert list(path.parent.iterdir()) == []
    made.save(path)
    before = path.read_bytes()
    refused(overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == ["s.json"]
    assert path.read_bytes() == before
    with pytest.raises(AlreadyExists, match=r"s\.json: something is already here"):
        made.save(path)


def test_missing_segments_are_an_error_or_zeros(tmp_path):
    given, taxonomy = predictions_of("ek55"), taxonomy_of("ek55")
    with pytest.raises(BadPredictions, match=r"2 of 3 .* none for 1, 2 .*--zeros"):
        submission(given, taxonomy, "ek55", ["7", "1", "2"])
    made = submission(given, taxonomy, "ek55", ["1", "7"], zeros=True)
    assert made.zeros == 1
    assert set(made.content["results"]["1"]["action"].values()) == {0}
    made.save(tmp_path / "s.json")
    assert list(json.loads((tmp_path / "s.json").read_text())["results"]) == ["1", "7"]


def test_a_file_that_is_there_stays(tmp_path):
    made = submission(predictions_of("ek55"), taxonomy_of("ek55"), "ek55", ["7"])
    (tmp_path / "s.json").write_text("mine")
    with pytest.raises(AlreadyExists, match=r"s\.json: something is already here"):
        made.save(tmp_path / "s.json")
    assert (tmp_path / "s.json").read_text() == "mine"
    made.save(tmp_path / "s.json", overwrite=True)
    assert json.loads((tmp_path / "s.json").read_text()) == made.content


def test_refusals():
    taxonomy = taxonomy_of("ek55")
    with pytest.raises(BadConfig, match="ek55 or ek100"):
        submission(predictions_of("ek55"), taxonomy, "ego4d", ["7"])
    with pytest.raises(BadConfig, match="another dataset"):
        submission(predictions_of("ek55"), taxonomy, "ek100", ["7"], levels=(1, 1, 1))
    with pytest.raises(BadConfig, match="no levels"):
        submission(predictions_of("ek55"), taxonomy, "ek55", ["7"], levels=(1, 1, 1))
    words = "other classes than the challenge: expected 97 verbs, 300 nouns, found 97 verbs, 305"
    with pytest.raises(BadConfig, match=rf"{words} nouns \(import .*--overwrite"):
        submission(
            predictions_of("ek100"),
            taxonomy_of("ek100", 5),
            "ek100",
            ["P01_11_0"],
            levels=(1, 1, 1),
        )
    for levels in (None, (1, 2), (1, 2, 6)):
        with pytest.raises(BadConfig, match="levels of supervision"):
            submission(
                predictions_of("ek100"), taxonomy_of("ek100"), "ek100", ["P01_11_0"], levels=levels
            )
    scores = np.full((3, ACTIONS), -np.inf, dtype=np.float32)
    scores[:, :99] = 0
    with pytest.raises(BadPredictions, match=r"segment 12: .*expected 100 or more, found 99"):
        submission(predictions_of("ek55", scores=scores), taxonomy, "ek55", ["12"])


def ranked(scores):
    """The action keys of a submission of one segment with these scores, in their order."""
    given = predictions_of("ek55", ["7"], scores=np.asarray(scores, np.float32)[None])
    made = submission(given, taxonomy_of("ek55"), "ek55", ["7"])
    check_submission("ek55", made.content)
    return list(made.content["results"]["7"]["action"])


def test_equal_scores_are_ranked_by_id():
    keys = [f"{i % 3},{i // 3}" for i in range(ACTIONS)]
    assert ranked(np.zeros(ACTIONS)) == keys[:100]
    by_parity = np.arange(ACTIONS) % 2  # odd ones first, each half in order
    assert ranked(by_parity) == keys[1::2] + keys[:80:2]


@pytest.mark.parametrize("count", [100, 101])
def test_as_many_ranked_actions_as_are_asked_for_are_enough(count):
    scores = np.full(ACTIONS, -np.inf)
    scores[-count:] = np.arange(count)
    assert ranked(scores) == [f"{i % 3},{i // 3}" for i in range(ACTIONS)][:-101:-1]


def test_an_empty_file_of_predictions_is_zeros_throughout(tmp_path):
    nothing = predictions_of("ek55", [], scores=np.zeros((0, ACTIONS), np.float32))
    nothing.save(tmp_path / "p")
    made = submission(
        Predictions.load(tmp_path / "p"), taxonomy_of("ek55"), "ek55", ["7", "3"], zeros=True
    )
    check_submission("ek55", made.content)
    assert (made.zeros, made.unused) == (2, 0)
    for entry in made.content["results"].values():
        assert {p for level in entry.values() for p in level.values()} == {0}
    with pytest.raises(BadPredictions, match="2 of 2 segments have no prediction"):
        submission(nothing, taxonomy_of("ek55"), "ek55", ["7", "3"])


BREAKS = {
    "version": lambda c: c.update(version="0.2"),
    "challenge": lambda c: c.update(challenge="action_recognition"),
    "results": lambda c: c.pop("results"),
    "nothing": lambda c: c.update(results={}),
    "uid": lambda c: c["results"].update({"P01": c["results"].pop("7")}),
    "verb missing": lambda c: c["results"]["7"]["verb"].pop("124"),
    "verb unknown": lambda c: c["results"]["7"]["verb"].update(
        {"125": c["results"]["7"]["verb"].pop("0")}
    ),
    "noun as text": lambda c: c["results"]["7"]["noun"].update({"0": "0.5"}),
    "99 actions": lambda c: c["results"]["7"]["action"].popitem(),
    "101 actions": lambda c: c["results"]["7"]["action"].update({"124,351": 0.5}),
    "action key": lambda c: c["results"]["7"]["action"].update(
        {"1": c["results"]["7"]["action"].popitem()[1]}
    ),
    "noun of an action": lambda c: c["results"]["7"]["action"].update(
        {"0,352": c["results"]["7"]["action"].popitem()[1]}
    ),
    "no noun": lambda c: c["results"]["7"].pop("noun"),
    "more": lambda c: c.update(author="me"),
}


@pytest.mark.parametrize("what", list(BREAKS))
def test_what_does_not_fit_the_schema_is_refused(what):
    made = submission(predictions_of("ek55"), taxonomy_of("ek55"), "ek55", UIDS["ek55"])
    check_submission("ek55", made.content)
    broken = copy.deepcopy(made.content)
    BREAKS[what](broken)
    with pytest.raises(BadPredictions, match="does not fit the challenge's form") as error:
        check_submission("ek55", broken)
    assert "\n" not in str(error.value)
    if what == "verb missing":
        assert "results.7.verb" in str(error.value)


def test_levels_are_in_the_schema():
    made = submission(
        predictions_of("ek100"), taxonomy_of("ek100"), "ek100", UIDS["ek100"], levels=(0, 5, 3)
    )
    check_submission("ek100", made.content)
    for change in ({"sls_pt": 6}, {"sls_td": "1"}):
        with pytest.raises(BadPredictions, match="sls"):
            check_submission("ek100", {**made.content, **change})
    del made.content["sls_tl"]
    with pytest.raises(BadPredictions, match="sls_tl"):
        check_submission("ek100", made.content)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjsonschema", None)
    with pytest.raises(MissingExtra, match=r"antcache\[evaluate\]"):
        check_submission("ek55", {})


def test_command(tmp_path):
    store = Store.create(tmp_path / "store")
    taxonomy = taxonomy_of("ek55")
    segments = Segments.of(
        uid=["7", "12"],
        video=["v", "w"],
        start_s=[1, 2],
        stop_s=[2, 3],
        verb=[0, 1],
        noun=[0, 0],
        action=[0, 1],
    )
    store.write_labels("validation", segments, taxonomy, source="test")
    given = predictions_of("ek55", split="validation")
    given.save(tmp_path / "run" / "predictions.safetensors")
    (tmp_path / "s1.csv").write_text("12, P01_11, 10, 90\n3, P01_11, 90, 100\n")
    out = tmp_path / "s1.json"
    arguments = [str(store.path), str(tmp_path / "run"), "--challenge", "ek55", "-o", str(out)]
    outcome = CliRunner().invoke(command, [*arguments, "--segments", str(tmp_path / "s1.csv")])
    assert outcome.exit_code == 0, outcome.output
    assert "2 segments for ek55" in outcome.output
    assert "1 predicted segments are not on the list" in outcome.output
    assert list(json.loads(out.read_text())["results"]) == ["12", "3"]
    assert "already here" in str(CliRunner().invoke(command, arguments).exception)
    whole = CliRunner().invoke(command, [*arguments, "--overwrite", "--json"])
    assert json.loads(whole.output) == {
        "file": str(out),
        "challenge": "ek55",
        "segments": 2,
        "zeros": 0,
        "unused": 1,
    }
    assert list(json.loads(out.read_text())["results"]) == ["7", "12"]
    (tmp_path / "s2.csv").write_text("12, P01_11, 10, 90\n4, P01_11, 90, 100\n")
    zeros = [*arguments, "--overwrite", "--zeros", "--segments", str(tmp_path / "s2.csv")]
    outcome = CliRunner().invoke(command, zeros)
    assert outcome.exit_code == 0, outcome.output
    assert "1 without a prediction have scores of 0" in outcome.output


def test_the_command_takes_levels_of_supervision(tmp_path):
    store = Store.create(tmp_path / "store")
    segments = Segments.of(
        uid=UIDS["ek100"],
        video=["v", "w", "x"],
        start_s=[1, 2, 3],
        stop_s=[2, 3, 4],
        verb=[0, 1, 2],
        noun=[0, 0, 0],
        action=[0, 1, 2],
    )
    store.write_labels("validation", segments, taxonomy_of("ek100"), source="test")
    predictions_of("ek100", split="validation").save(tmp_path / "p")
    out = tmp_path / "s.json"
    wanted = [str(store.path), str(tmp_path / "p"), "--challenge", "ek100", "-o", str(out)]
    for levels in ("1,2", "1,2,6", "1,b,3"):
        refused = CliRunner().invoke(command, [*wanted, "--levels", levels])
        assert isinstance(refused.exception, BadConfig)
        assert not out.exists()
    done = CliRunner().invoke(command, [*wanted, "--levels", "1, 4,3"])
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())
    assert [written[f"sls_{name}"] for name in ("pt", "tl", "td")] == [1, 4, 3]
