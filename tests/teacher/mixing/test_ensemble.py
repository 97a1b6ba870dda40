"""Joint soft targets: what is written, what they promise, and which members are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch, MissingTarget
from antcache.store import SoftTargets, Store
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.mixing.ensemble import EnsembleConfig, ensemble, make_ensemble
from antcache.teacher.mixing.mixture import load_mixture
from antcache.teacher.targets import TargetConfig, make_targets


@pytest.fixture(scope="module")
def members(timeline) -> dict[str, SoftTargets]:
    """Targets of count teachers, cross-fitted and not."""

    def made(folds: int, **settings: int) -> SoftTargets:
        return make_targets(timeline, TargetConfig(folds=folds, settings=settings))[1]

    return {"long": made(4), "short": made(4, order=1), "seen": made(0)}


@pytest.fixture
def store(tmp_path, splits, taxonomy, members, monkeypatch, shelf):
    """A store with labels and members, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(path):
        made = Store.create(path)
        for split, segments in splits.items():
            made.write_labels(split, segments, taxonomy, source="test")
        for name, targets in members.items():
            made.write_targets(name, targets)

    return shelf.store(tmp_path / "kitchen", "members of an ensemble", write)


def run(*words, code=0):
    result = CliRunner().invoke(cli, ["teacher", "ensemble", "kitchen", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def refused(*words):
    """The one line that a command ends with."""
    result = run(*words, code=2)
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def probabilities(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def changed(store, name, source, **fields):
    """A member like `source` but for some arrays or attributes."""
    old = store.targets(source)
    attributes = {**old.attributes, **fields.pop("attributes", {})}
    store.write_targets(name, replace(old, attributes=attributes, **fields))


def test_the_mean_of_two_members(store, timeline, members):
    facts = json.loads(run("long", "seen", "--name", "joint", "--json").stdout)
    joint = store.targets("joint")
    by_uid = joint.rows_for(timeline.segments.uid)
    expected = sum(probabilities(members[n].logits.astype(float)) for n in ("long", "seen")) / 2
    np.testing.assert_allclose(np.exp(joint.logits[by_uid]), expected, rtol=1e-5)
    assert facts["valid"] == facts["segments"] == len(timeline.segments)
    assert (facts["kind"], facts["mix"], facts["history"]) == ("ensemble", "mean", "complete")
    # One member knows its training segments: so do the joint targets, and no score says otherwise.
    assert (facts["folds"], facts["member_folds"]) == (0, {"long": 4, "seen": 0})
    assert facts["scores"] == {}
    assert facts["weights"] == [0.5, 0.5]
    assert facts["metrics"]["validation"]["action/top5"] > 50


def test_a_stack_is_honest_on_its_own_training_rows(store, timeline, members):
    words = ["long", "short", "--name", "joint", "--mix", "stack", "--folds", 3, "--json"]
    facts = json.loads(run(*words).stdout)
    assert (facts["folds"], facts["mix_folds"], len(facts["fold_weights"])) == (4, 3, 3)
    assert facts["weights"][0] > 0.9  # single actions say nothing about what follows
    assert facts["scores"]["stack, held out"]["nll"] < facts["scores"]["mean"]["nll"]
    mixture, about = load_mixture(Path("kitchen.teachers/joint"))
    assert about["scores"] == facts["scores"]
    assert list(mixture.weights) == facts["weights"]
    stored = store.targets("joint")
    joint = stored.logits[stored.rows_for(timeline.segments.uid)]
    everywhere = mixture.mix([members["long"].logits, members["short"].logits])
    train = timeline.split == "train"
    np.testing.assert_array_equal(joint[~train], everywhere[~train])
    assert not np.allclose(joint[train], everywhere[train], atol=1e-4)
    np.testing.assert_allclose(np.exp(joint).sum(axis=1), 1, rtol=1e-5)


def test_attention_top_k_and_a_tuned_balance(store):
    words = ["long", "short", "--mix", "attention", "--balance", "tuned", "--folds", 2]
    output = run(*words, "--name", "joint", "--top-k", 3, "--output", "mine").stdout
    assert "attention, held out" in output
    assert "weight" in output
    joint = store.targets("joint")
    assert joint.index.shape[1] == 3
    mass = np.exp(joint.logit.astype(float)).sum(axis=1) + np.exp(joint.tail.astype(float))
    np.testing.assert_allclose(mass, 1, rtol=1e-5)
    assert joint.attributes["config"]["balance"] == "tuned"
    assert load_mixture(Path("mine"))[0].kind == "attention"


def test_the_same_settings_give_the_same_targets(store):
    config = EnsembleConfig(members=("long", "short"), mix="attention", folds=2, steps=20)
    (one, first), (two, second) = (make_ensemble(store, config) for _ in range(2))
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.attributes == second.attributes
    assert one.weights == two.weights


def test_segments_that_lack_a_member_are_told(store, timeline):
    old = store.targets("long")
    valid = np.arange(len(old.uid)) % 7 > 0
    changed(store, "some", "long", valid=valid)
    output = run("some", "short", "--name", "joint").stdout
    lacking = int((~valid).sum())
    assert f"{lacking} segments without a target of every member" in output
    assert int(store.targets("joint").valid.sum()) == len(timeline.segments) - lacking
    assert "without a target" not in run("long", "short", "--name", "all").stdout


def test_a_segment_needs_every_member(store, timeline):
    kept = np.ones(len(timeline.segments), dtype=bool)
    kept[[0, 3, len(kept) - 1]] = False
    old = store.targets("long")
    shuffled = np.random.default_rng(0).permutation(np.flatnonzero(kept))
    part = {"uid": old.uid[shuffled], "valid": old.valid[shuffled].copy()}
    part["moment"] = old.moment[shuffled]
    part["valid"][0] = False
    spoilt = old.logits[shuffled].copy()
    spoilt[0] = np.nan
    changed(store, "part", "long", logits=spoilt, **part)
    config = EnsembleConfig(members=("short", "part"), mix="stack", folds=2)
    _, joint = make_ensemble(store, config)
    missing = np.isin(joint.uid, part["uid"][1:], invert=True)
    np.testing.assert_array_equal(joint.valid, ~missing)
    assert np.isnan(joint.logits[missing]).all()
    assert joint.attributes["absent"] == {"short": 0, "part": 4}
    # The others are what the same members give row by row, in whatever order they are stored.
    _, whole = make_ensemble(store, EnsembleConfig(members=("short", "long")))
    _, mean = make_ensemble(store, EnsembleConfig(members=("short", "part")))
    np.testing.assert_array_equal(mean.logits[~missing], whole.logits[~missing])


def test_joint_targets_can_be_members(store):
    run("long", "short", "--name", "pair", "--mix", "stack", "--folds", 2)
    facts = json.loads(run("pair", "long", "--name", "joint", "--mix", "stack", "--json").stdout)
    assert facts["folds"] == 4


def test_members_that_differ_in_history(store, timeline):
    observed = TargetConfig(folds=4, history=HistoryConfig(mode="observed", gap_s=2.5))
    store.write_targets("observed", make_targets(timeline, observed)[1])
    line = refused("long", "observed", "--name", "joint")
    assert "different history settings" in line
    assert "long complete, observed observed" in line
    words = ["long", "observed", "--name", "joint", "--mixed-histories", "--json"]
    facts = json.loads(run(*words).stdout)
    assert (facts["history"], facts["gap_s"]) == ("mixed", "mixed")
    changed(store, "later", "observed", attributes={"gap_s": 3.0})
    assert "different gap settings" in refused("observed", "later", "--name", "x")


def test_members_that_have_seen_the_training_segments_are_averaged_only(store):
    for options in (["--mix", "stack"], ["--mix", "attention"], ["--balance", "tuned"]):
        line = refused("long", "seen", "--name", "joint", *options)
        assert "targets/seen" in line
        assert "train it with --folds" in line
    run("long", "seen", "--name", "joint", "--balance", 0.3)
    assert store.targets("joint").attributes["balance"] == 0.3
    changed(store, "imported", "long", attributes={"folds": "unknown"})
    assert "not known to be" in refused("long", "imported", "--name", "x", "--mix", "stack")
    facts = json.loads(run("long", "imported", "--name", "both", "--json").stdout)
    assert facts["folds"] == "unknown"


def test_targets_that_cannot_be_mixed(store):
    store.write_targets("cut", store.targets("long").top_k(3))
    line = refused("long", "cut", "--name", "joint")
    assert "expected dense targets, found top-3" in line
    strange = store.targets("long").uid.copy()
    strange[5] = "none"
    changed(store, "strange", "long", uid=strange)
    assert "found 1, the first one none" in refused("long", "strange", "--name", "joint")
    logits = store.targets("long").logits.copy()
    logits[7, 2] = np.inf
    arrays, about = store.backend.read("targets/long")  # as an earlier version wrote them
    store.backend.publish("targets/endless", {**arrays, "logits": logits}, about)
    assert "not finite" in refused("long", "endless", "--name", "joint")
    with pytest.raises(BadConfig, match="another number of classes: expected 12, found 5"):
        changed(store, "narrow", "long", logits=logits[:, :5])
    changed(store, "nothing", "long", valid=np.zeros(len(logits), dtype=bool))
    with pytest.raises(MissingTarget, match="no training segment"):
        make_ensemble(store, EnsembleConfig(members=("long", "nothing")))
    assert "joint" not in store.target_names()
    assert not Path("kitchen.teachers").exists()


def test_another_taxonomy(store, monkeypatch):
    """The store itself takes none, so the attribute is changed on the way out."""
    read = Store.targets

    def other(self: Store, name: str) -> SoftTargets:
        targets = read(self, name)
        wrong = {**targets.attributes, "taxonomy": "0000"}
        return replace(targets, attributes=wrong) if name == "short" else targets

    monkeypatch.setattr(Store, "targets", other)
    with pytest.raises(FingerprintMismatch, match="another taxonomy"):
        make_ensemble(store, EnsembleConfig(members=("long", "short")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["long", "short", "--mix", "median"],
            "'median' is not one of 'mean', 'geometric', 'stack', 'attention'",
        ),
        (["long", "short", "--balance", "much"], "expected a number or tuned, found much"),
        (["long", "short", "--balance", "-1"], "impossible balance"),
        (["long", "short", "--mix", "stack", "--folds", 1], "impossible folds: expected from 2"),
        (["long", "short", "--mix", "stack", "--folds", 99], "expected from 2 to 8, found 99"),
        (["long", "short", "--train-split", "training"], "no segments in the training split"),
        (["long", "short", "--top-k", 13], "impossible top-k"),
        (["long", "short", "--output", "."], "not a mixture"),
        (["long"], "two and more different members"),
        (["long", "long"], "two and more different members"),
        (["long", "nobody"], "no set of soft targets 'nobody'"),
    ],
)
def test_bad_settings_end_with_one_line_and_write_nothing(store, words, message):
    assert message in refused(*words, "--name", "x")
    assert store.target_names() == ["long", "seen", "short"]
    assert not Path("kitchen.teachers").exists()


def test_existing_outputs_are_refused_before_any_work(store):
    run("long", "short", "--name", "joint")
    for words in (
        ["--name", "joint", "--output", "other"],
        ["--name", "x", "--output", "kitchen.teachers/joint"],
    ):
        assert "already" in refused("long", "short", *words)
    assert not Path("other").exists()
    config = EnsembleConfig(members=("long", "short"))
    before = Path("kitchen.teachers/joint/mixture.json").read_bytes(), store.targets("joint").logits
    for name, folder in (("joint", "other"), ("x", "kitchen.teachers/joint")):
        with pytest.raises(AlreadyExists, match="already"):
            ensemble(store, name, config, Path(folder))
    assert Path("kitchen.teachers/joint/mixture.json").read_bytes() == before[0]
    np.testing.assert_array_equal(store.targets("joint").logits, before[1])
    assert "x" not in store.target_names()
    run("long", "short", "--name", "joint", "--mix", "stack", "--folds", 2, "--overwrite")
    assert store.targets("joint").attributes["mix"] == "stack"
    with pytest.raises(BadConfig, match="can't replace a member"):
        ensemble(store, "long", config, Path("kitchen.teachers/long"), overwrite=True)
