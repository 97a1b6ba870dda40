"""Fusion with weights of their own for verbs, nouns and actions, of runs that know one best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import log_softmax, softmax

from antcache.annotations import Segments, Taxonomy
from antcache.cli.evaluation.fuse import fuse as command
from antcache.errors import BadConfig
from antcache.evaluation import Predictions, evaluate
from antcache.evaluation.fusion import fit_weights, fuse, mix
from antcache.evaluation.metrics import verb_noun_marginals
from antcache.evaluation.predictions import HELD_OUT
from antcache.evaluation.submission.challenges import submission
from antcache.store import Store

KINDS = ("action", "verb", "noun")


def knows(labels, size, share, rng):
    """Scores (N, C) of which a share names the truth, and the rest some class, with p = 0.9."""
    best = np.where(rng.random(len(labels)) < share, labels, rng.integers(0, size, len(labels)))
    scores = np.full((len(labels), size), np.log(0.1 / (size - 1)))
    scores[np.arange(len(labels)), best] = np.log(0.9)
    return scores.astype(np.float32)


@pytest.fixture
def experts(tmp_path):
    """A store, and two runs: the first knows verbs, the second nouns, both know some actions."""
    rng = np.random.default_rng(0)
    taxonomy = Taxonomy(
        dataset="own",
        verbs=tuple(f"v{i}" for i in range(6)),
        nouns=tuple(f"n{i}" for i in range(7)),
        actions=tuple(f"v{v} n{n}" for v in range(6) for n in range(7)),
        action_verbs=tuple(v for v in range(6) for _ in range(7)),
        action_nouns=tuple(n for _ in range(6) for n in range(7)),
    )
    store = Store.create(tmp_path / "experts")
    runs = {str(tmp_path / name): {} for name in ("verbs", "nouns")}
    shares = {"verbs": (0.6, 0.9, 0.3), "nouns": (0.3, 0.3, 0.9)}
    for split, file in (("train", HELD_OUT), ("validation", "predictions.safetensors")):
        action = rng.integers(0, 42, 400)
        segments = Segments.of(
            uid=[f"{split}{i}" for i in range(400)],
            video=[f"{split}-{i // 40}" for i in range(400)],
            start_s=10.0 + np.arange(400),
            stop_s=11.0 + np.arange(400),
            verb=taxonomy.verb_of[action],
            noun=taxonomy.noun_of[action],
            action=action,
        )
        store.write_labels(split, segments, taxonomy, source="made up")
        for run in runs:
            sizes = {"action": 42, "verb": 6, "noun": 7}
            made = {
                kind: knows(getattr(segments, kind), size, share, rng)
                for (kind, size), share in zip(sizes.items(), shares[Path(run).name], strict=True)
            }
            Predictions(
                uid=segments.uid,
                scores=made["action"],
                verb_scores=made["verb"],
                noun_scores=made["noun"],
                split=split,
                taxonomy=taxonomy.fingerprint,
            ).save(Path(run, file))
    return store, list(runs)


@pytest.mark.parametrize("mixture", ["probabilities", "logits"])
def test_verbs_and_nouns_have_weights_of_their_own(experts, mixture):
    store, runs = experts
    apart = fuse(store, runs, weights="apart", mixture=mixture)
    together = fuse(store, runs, weights="held-out", mixture=mixture)
    assert set(apart.shares) == set(KINDS)
    assert apart.weights == together.weights
    assert apart.nll == together.nll
    np.testing.assert_array_equal(apart.predictions.scores, together.predictions.scores)
    assert apart.shares["verb"].weights[0] > 0.8
    assert apart.shares["noun"].weights[1] > 0.8
    assert 0.55 < apart.weights[0] < 0.95
    labels = store.labels("validation")

    def loss(found, kind):
        logs = log_softmax(getattr(found.predictions, f"{kind}_scores"), axis=1)
        return -logs[np.arange(len(labels)), getattr(labels, kind)].mean()

    for kind in KINDS[1:]:
        assert loss(apart, kind) < loss(together, kind) - 0.05
    right = [
        evaluate(store, found.predictions, "x").scored["noun/top1"] for found in (apart, together)
    ]
    assert right[0] > right[1] + 20  # one weight for all leans to the run that knows verbs
    # As learned for each alone, and each on its own held-out truth.
    held = [Predictions.load(Path(run, HELD_OUT)) for run in runs]
    truth = store.labels("train")
    for place, kind in enumerate(KINDS[1:]):
        scores = [p.verb_noun_scores[place] for p in held]
        weights, nll = fit_weights(scores, getattr(truth, kind), mixture=mixture)
        assert apart.shares[kind].weights == tuple(weights.tolist())
        assert apart.shares[kind].nll == nll
    own = [Predictions.load(run).verb_scores for run in runs]
    expected = mix(own, np.array(apart.shares["verb"].weights), mixture)
    np.testing.assert_allclose(apart.predictions.verb_scores, expected, rtol=1e-6)
    assert len(labels) == len(apart.predictions)
    assert apart.predictions.config["weights"] == {
        kind: list(share.weights) for kind, share in apart.shares.items()
    }


def test_runs_without_classifiers_are_heard_by_their_actions(experts, tmp_path):
    """What the actions of one say of verbs is mixed with what another's own classifier says."""
    store, runs = experts
    for file in (HELD_OUT, "predictions.safetensors"):
        path = Path(runs[1], file)
        alone = replace(Predictions.load(path), verb_scores=None, noun_scores=None)
        alone.save(path, overwrite=True)
    found = fuse(store, runs, weights="apart")
    first, second = (Predictions.load(run) for run in runs)
    says, _ = verb_noun_marginals(second.scores, store.taxonomy)
    w = found.shares["verb"].weights
    own = np.exp(log_softmax(first.verb_scores.astype(np.float64), axis=1))
    np.testing.assert_allclose(
        np.exp(found.predictions.verb_scores), w[0] * own + w[1] * says, rtol=1e-4
    )
    assert fuse(store, runs, weights="held-out").predictions.verb_scores is None
    # A weight of what a classifier says is none of what actions say.
    both = Predictions.load(Path(runs[0], HELD_OUT))
    replace(both, verb_scores=None, noun_scores=None).save(tmp_path / "other")
    others = [str(tmp_path / "other"), f"{runs[1]}/{HELD_OUT}"]
    with pytest.raises(BadConfig, match=r"verbs: held-out predictions of another model"):
        fuse(store, runs, weights="apart", held_out=others)
    fuse(store, runs, weights="held-out", held_out=others)


def test_the_command_says_each_of_the_weights(experts, tmp_path):
    store, runs = experts
    arguments = [str(store.path), *runs, "-o", str(tmp_path / "fused"), "--weights", "apart"]
    said = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    found = fuse(store, runs, weights="apart")
    assert {kind: list(part["weights"].values()) for kind, part in said["apart"].items()} == {
        kind: list(share.weights) for kind, share in found.shares.items()
    }
    assert said["apart"]["verb"]["nll"] == list(found.shares["verb"].nll)
    table = CliRunner().invoke(command, [*arguments, "--overwrite"])
    assert table.exit_code == 0, table.output
    text = " ".join(table.stdout.split())
    for kind in KINDS:
        assert f"{found.shares[kind].weights[0]:.4f}" in text
        assert f"{found.shares[kind].nll[-1]:.4f}" in text
    one = [*arguments[:-1], "held-out", "--overwrite", "--json"]
    assert json.loads(CliRunner().invoke(command, one).stdout)["apart"] == {}


def test_a_submission_takes_the_weights_of_each(experts, tmp_path):
    """Verb and noun scores are what their own weights make of the runs, as probabilities."""
    store, runs = experts
    taxonomy = store.taxonomy
    names = {"verbs": (125, "v"), "nouns": (352, "n")}
    ek55 = replace(
        taxonomy,
        dataset="epic-kitchens-55",
        actions=tuple(f"a{i}" for i in range(42 * 3)),
        action_verbs=taxonomy.action_verbs * 3,
        action_nouns=tuple(n + 7 * i for i in range(3) for n in taxonomy.action_nouns),
        **{kind: tuple(f"{c}{i}" for i in range(n)) for kind, (n, c) in names.items()},
    )
    wide = Store.create(tmp_path / "wide")
    for split, file in (("train", HELD_OUT), ("validation", "predictions.safetensors")):
        wide.write_labels(split, store.labels(split), ek55, source="made up")
        for run in runs:
            found = Predictions.load(Path(run, file))
            pads = {"scores": 126, "verb_scores": 125, "noun_scores": 352}
            arrays = {
                name: np.pad(
                    part := getattr(found, name),
                    ((0, 0), (0, size - part.shape[1])),
                    constant_values=-9.0,
                )
                for name, size in pads.items()
            }
            changed = replace(found, taxonomy=ek55.fingerprint, **arrays)
            changed.save(Path(run, file), overwrite=True)
    fused = fuse(wide, runs, weights="apart")
    uid = str(fused.predictions.uid[0])
    entry = submission(fused.predictions, ek55, "ek55", [uid]).content["results"][uid]
    assert fused.shares["verb"].weights != fused.shares["noun"].weights
    for kind in ("verb", "noun"):
        parts = [
            softmax(getattr(Predictions.load(run), f"{kind}_scores")[0].astype(np.float64))
            for run in runs
        ]
        expected = np.average(parts, axis=0, weights=fused.shares[kind].weights)
        np.testing.assert_allclose(list(entry[kind].values()), expected, rtol=1e-4)
