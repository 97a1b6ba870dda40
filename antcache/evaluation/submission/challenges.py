"""Submission files of EPIC-KITCHENS-55 (S1, S2) and -100, checked before they are written.

Promise: a file holds exactly the segments of the test list, in its order, each with a probability
for every verb and noun and for the 100 best actions, keyed `"verb,noun"`; it fits the JSON schema
in `schemas/`, and equal predictions give equal bytes. A segment without a prediction is an error,
unless it is asked to be written with scores of 0, as RULSTM does (fpv-iplab/rulstm, `main.py`).
Forms: RULSTM, `predictions_to_json`; epic-kitchens/C3-Action-Anticipation, the challenge's own
check. Letters: N segments, C actions, V verbs, O nouns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy, locate, protocol_for
from antcache.annotations.sizes import SIZES
from antcache.checks import one_of
from antcache.errors import BadConfig, BadPredictions, needs
from antcache.evaluation.metrics import verb_noun_marginals
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.task import Task
from antcache.files import atomic_file, check_file

BEST = 100
"""Actions of each segment."""
LEVELS = ("sls_pt", "sls_tl", "sls_td")


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """A leaderboard.

    Attributes:
        dataset: whose classes it takes.
        version: of the file's form.
        levels: whether it asks for the levels of supervision (`LEVELS`).
    """

    dataset: str
    version: str
    levels: bool


CHALLENGES = {
    "ek55": Challenge(dataset="epic-kitchens-55", version="0.1", levels=False),
    "ek100": Challenge(dataset="epic-kitchens-100", version="0.2", levels=True),
}


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A file's content.

    Attributes:
        challenge: key of `CHALLENGES`.
        content: JSON-ready.
        zeros: segments without a prediction that were given scores of 0.
        unused: predicted segments that are not on the list.
    """

    challenge: str
    content: dict[str, Any]
    zeros: int
    unused: int

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Check the content against the schema and write it, all at once.

        Raises:
            AlreadyExists: the file is there and `overwrite` is false.
            WriteFailed: the disk refused.
            BadPredictions: the content does not fit the schema.
            MissingExtra: fastjsonschema is not installed.
        """
        path = Path(path)
        check_file(path, overwrite=overwrite)
        check_submission(self.challenge, self.content)
        text = json.dumps(self.content, separators=(",", ":"), allow_nan=False)
        with atomic_file(path, overwrite=overwrite) as staged:
            staged.write_text(text + "\n", "utf-8")


def submission(
    predictions: Predictions,
    taxonomy: Taxonomy,
    challenge: str,
    uids: Sequence[str],
    *,
    levels: Sequence[int] | None = None,
    zeros: bool = False,
    name: str = "predictions",
) -> Submission:
    """A submission of the segments `uids` (N).

    Args:
        predictions: of these segments, and maybe of others.
        taxonomy: the C actions.
        challenge: key of `CHALLENGES`.
        uids: what the leaderboard asks for, in this order.
        levels: of supervision, for EPIC-KITCHENS-100: pretraining, training labels, training data,
            each 0 to 5 (RULSTM's features: 1, 4, 3).
        zeros: write scores of 0 for a segment without a prediction.
        name: of the predictions, for errors.

    Raises:
        BadConfig: an unknown challenge, another dataset or number of classes, or levels that are
            missing or impossible.
        FingerprintMismatch: the predictions are for another taxonomy, or have seen more than the
            leaderboards allow: another anchor than the start of the segments, or a shorter gap.
        BadPredictions: a segment has no prediction, or fewer than 100 ranked actions.
    """
    one_of("challenge", challenge, CHALLENGES)
    form = CHALLENGES[challenge]
    if taxonomy.dataset != form.dataset:
        raise BadConfig(
            "a challenge of another dataset", expected=form.dataset, found=taxonomy.dataset
        )
    sizes = SIZES[form.dataset]
    if (len(taxonomy.verbs), len(taxonomy.nouns)) != (sizes.verbs, sizes.nouns):
        raise BadConfig(
            "the store has other classes than the challenge",
            expected=f"{sizes.verbs} verbs, {sizes.nouns} nouns",
            found=f"{len(taxonomy.verbs)} verbs, {len(taxonomy.nouns)} nouns",
            hint="import the annotations again with the official class files and --overwrite, then "
            "train and predict again",
        )
    predictions.check_taxonomy(taxonomy, where=name)
    _check_task(predictions, form.dataset, name)
    asked = np.asarray(uids, dtype=np.str_)
    rows = locate(predictions.uid, asked)
    known, missing = asked[rows >= 0].tolist(), asked[rows < 0].tolist()
    if missing and not zeros:
        raise BadPredictions(
            f"{len(missing)} of {len(uids)} segments have no prediction",
            where=name,
            found=f"none for {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
            hint="predict them, or have 0 written for them: --zeros",
        )
    content: dict[str, Any] = {"version": form.version, "challenge": "action_anticipation"}
    content |= _levels(form, levels)
    entries = _entries(predictions, taxonomy, rows[rows >= 0], name)
    written = dict(zip(known, entries, strict=True))
    nothing = _zeros(taxonomy)
    content["results"] = {uid: written.get(uid) or nothing for uid in uids}
    return Submission(
        challenge=challenge,
        content=content,
        zeros=len(missing),
        unused=len(predictions) - len(known),
    )


def check_submission(challenge: str, content: Any) -> None:
    """Check JSON-ready content against the schema of a challenge.

    Raises:
        BadPredictions: names the entry that does not fit.
        MissingExtra: fastjsonschema is not installed.
    """
    with needs("fastjsonschema", "evaluate"):
        import fastjsonschema
    text = (files("antcache.evaluation.submission") / "schemas" / f"{challenge}.json").read_text(
        "utf-8"
    )
    check: Callable[[Any], Any] = fastjsonschema.compile(json.loads(text))
    try:
        check(content)
    except fastjsonschema.JsonSchemaValueException as error:
        name = str(error.name)
        entry = name.removeprefix("data").lstrip(".") or "the file"
        raise BadPredictions(
            "the submission does not fit the challenge's form",
            where=entry,
            found=str(error.message).removeprefix(name).strip()[:200],
        ) from error


def _check_task(predictions: Predictions, dataset: str, name: str) -> None:
    """Refuse what has seen more than the challenge allows; whoever saw less may take part."""
    gap_s = protocol_for(dataset).gap_s
    less = predictions.gap_s is not None and predictions.gap_s > gap_s
    Task(gap_s=None if less else gap_s).joined(predictions.task, name)


def _levels(form: Challenge, levels: Sequence[int] | None) -> dict[str, int]:
    if not form.levels:
        if levels is not None:
            raise BadConfig("EPIC-KITCHENS-55 asks for no levels of supervision", found=levels)
        return {}
    if levels is None or len(levels) != len(LEVELS) or not all(0 <= v <= 5 for v in levels):
        raise BadConfig(
            "the levels of supervision are missing or impossible",
            expected=f"{', '.join(LEVELS)}, each 0 to 5",
            found="none" if levels is None else ", ".join(map(str, levels)),
            hint="RULSTM's features: --levels 1,4,3",
        )
    return dict(zip(LEVELS, levels, strict=True))


def _entries(
    predictions: Predictions, taxonomy: Taxonomy, rows: NDArray[np.int64], name: str
) -> Iterator[dict[str, dict[str, float]]]:
    from scipy.special import softmax

    scores = predictions.scores[rows].astype(np.float64)
    pair = predictions.verb_noun_scores
    if pair is None:
        verbs, nouns = verb_noun_marginals(scores, taxonomy) if len(rows) else (scores, scores)
    else:
        verbs, nouns = (softmax(part[rows].astype(np.float64), axis=1) for part in pair)
    ranked = (np.isfinite(scores)).sum(axis=1)
    if (ranked < BEST).any():
        row = int(np.argmax(ranked < BEST))
        raise BadPredictions(
            "too few actions are ranked",
            where=f"{name}, segment {predictions.uid[rows[row]]}",
            expected=f"{BEST} or more",
            found=int(ranked[row]),
        )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
    best = np.take_along_axis(softmax(scores, axis=1), order, axis=1)
    keys = _keys(taxonomy)
    for v, n, actions, p in zip(verbs, nouns, order, best, strict=True):
        yield {
            "verb": {str(i): _short(x) for i, x in enumerate(v)},
            "noun": {str(i): _short(x) for i, x in enumerate(n)},
            "action": {keys[i]: _short(x) for i, x in zip(actions, p, strict=True)},
        }


def _keys(taxonomy: Taxonomy) -> list[str]:
    pairs = zip(taxonomy.action_verbs, taxonomy.action_nouns, strict=True)
    return [f"{verb},{noun}" for verb, noun in pairs]


def _zeros(taxonomy: Taxonomy) -> dict[str, dict[str, float]]:
    return {
        "verb": {str(i): 0.0 for i in range(len(taxonomy.verbs))},
        "noun": {str(i): 0.0 for i in range(len(taxonomy.nouns))},
        "action": dict.fromkeys(_keys(taxonomy)[:BEST], 0.0),
    }


def _short(value: float) -> float:
    """Nine digits, all that a float32 has: shorter files, the same on every platform."""
    return float(f"{value:.9g}")
