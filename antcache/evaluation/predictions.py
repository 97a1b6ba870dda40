"""Predictions of a model for the segments of a split, and the file that keeps them.

Promise: a file is complete or not there (see `antcache.files`), says which split and taxonomy it is
for and which configuration it came from, and is plain safetensors: the tensor
`scores` (N, C) float32, where a model has them `verb_scores` (N, V) and `noun_scores` (N, O), and
in the header's metadata `format`, `split`, `taxonomy`, `anchor`, where they are known `gap_s` and
`moment`, and as JSON `uid` and `config`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Taxonomy
from antcache.annotations.protocols import Anchor, Gap, anchor_name
from antcache.annotations.segments import MOMENT, apart, no_moment
from antcache.checks import check_type
from antcache.errors import (
    BadCheckpoint,
    BadConfig,
    BadPredictions,
    FingerprintMismatch,
    NotFound,
)
from antcache.evaluation.metrics import VerbNoun, check_kinds
from antcache.evaluation.task import Task
from antcache.files import atomic_file
from antcache.settings import read
from antcache.tensors import read_tensors, write_tensors
from antcache.untrusted import NotFetched, names_array, parse_json

FORMAT = "antcache-predictions-1"
PREDICTED = "antcache student train writes a run's, antcache student predict those of another split"
"""Where predictions come from."""
FILE_NAME = "predictions.safetensors"  # inside the folder of a run
HELD_OUT = "held_out.safetensors"  # beside it: training videos that the run was not trained on

TENSORS = ("scores", "verb_scores", "noun_scores")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Action scores of N segments over C actions, and if the model has them of V verbs, O nouns.

    Attributes:
        uid: (N,) str, each segment once.
        scores: (N, C) float32, as logits or log-probabilities, higher is better.
        split: which split of the labels the segments belong to.
        taxonomy: fingerprint of the taxonomy of the C actions.
        config: JSON-ready account of the model and run.
        verb_scores: (N, V) float32, of a model with own verb and noun classifiers, or None: verbs
            and nouns are then scored by the actions that contain them.
        noun_scores: (N, O) float32, or None; both are there or neither.
        anchor: what the gap was counted back from, see `Protocol.anchor`. A file that says none is
            from before there were others: its predictions count as those of the start.
        gap_s: seconds between what was seen and that point; None where nobody says.
        moment: (N,) str, `Segments.moments` of what was predicted; None where nobody says. Labels
            that are corrected may give a uid to something else.

    Raises:
        BadConfig: shapes, dtype, uids, anchor, gap or moments are wrong.
    """

    uid: NDArray[np.str_]
    scores: NDArray[np.float32]
    split: str
    taxonomy: str
    config: dict[str, Any] = field(default_factory=dict)
    verb_scores: NDArray[np.float32] | None = None
    noun_scores: NDArray[np.float32] | None = None
    anchor: float = 0.0
    gap_s: float | None = None
    moment: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        check_type("anchor", self.anchor, Anchor)
        check_type("gap_s", self.gap_s, Gap | None)
        if self.scores.ndim != 2 or self.uid.shape != self.scores.shape[:1]:
            raise BadConfig(
                "one row of scores per uid is needed",
                expected="uid (N,) and scores (N, C)",
                found=f"{self.uid.shape} and {self.scores.shape}",
            )
        if self.scores.dtype != np.float32:
            raise BadConfig("scores must be float32", found=self.scores.dtype)
        if (self.verb_scores is None) != (self.noun_scores is None):
            raise BadConfig("verb scores and noun scores go together", expected="both or neither")
        for name in ("verb_scores", "noun_scores"):
            own = getattr(self, name)
            if own is not None and (
                own.ndim != 2 or len(own) != len(self.uid) or own.dtype != np.float32
            ):
                raise BadConfig(
                    f"{name} do not fit",
                    expected=f"float32, ({len(self.uid)}, classes)",
                    found=f"{own.dtype}, {own.shape}",
                )
        if len(np.unique(self.uid)) < len(self.uid):
            raise BadConfig("a segment is predicted twice")
        if self.moment is not None and self.moment.shape != self.uid.shape:
            raise BadConfig(
                "one moment per uid is needed", expected=self.uid.shape, found=self.moment.shape
            )
        if self.moment is not None and (wrong := no_moment(self.moment)) is not None:
            raise BadConfig(
                "no moment", expected="what Segments.moments() says of a segment", found=wrong
            )

    def __len__(self) -> int:
        return len(self.uid)

    def __getitem__(self, rows: NDArray[Any]) -> Predictions:
        """The predictions at `rows` (indices or a mask)."""
        arrays = {name: getattr(self, name) for name in ("uid", "moment", *TENSORS)}
        taken: dict[str, Any] = {k: a[rows] for k, a in arrays.items() if a is not None}
        return replace(self, **taken)

    @property
    def task(self) -> Task:
        """What was asked, which must be the same of all that they stand beside."""
        return Task(anchor=self.anchor, gap_s=self.gap_s)

    @property
    def verb_noun_scores(self) -> VerbNoun | None:
        """Those of verbs and of nouns, if the model has classifiers of its own for them."""
        if self.verb_scores is None or self.noun_scores is None:
            return None
        return self.verb_scores, self.noun_scores

    def check_taxonomy(self, taxonomy: Taxonomy, where: object = "") -> None:
        """Check that the scores are for the actions of `taxonomy`.

        Raises:
            FingerprintMismatch: they are for another one.
            BadConfig: they are of verbs and nouns, too, where actions have none.
        """
        check_kinds(self.verb_noun_scores, taxonomy)
        found = self.taxonomy, self.scores.shape[1]
        expected = taxonomy.fingerprint, len(taxonomy.actions)
        if found != expected:
            raise FingerprintMismatch(
                "predictions for another taxonomy than the store's",
                where=where,
                expected=f"{expected[1]} actions, {expected[0]}",
                found=f"{found[1]} actions, {found[0]}",
                hint="score them with the store they were made from",
            )

    def check_finite(self, where: object) -> None:
        """Check that every segment has numbers for scores, `-inf` for some classes at most.

        Raises:
            BadPredictions: names the first segment that has not.
        """
        for name in TENSORS:
            scores = getattr(self, name)
            if scores is None or not scores.size:
                continue
            # The maximum is NaN or +inf if any score is, and -inf if no class is ranked.
            bad = ~np.isfinite(scores.max(axis=1))
            if bad.any():
                first = int(np.argmax(bad))
                raise BadPredictions(
                    f"{name} that are not finite",
                    where=where,
                    expected="numbers, or -inf for classes that are not ranked",
                    found=f"{scores[first].max()} for segment {self.uid[first]}; "
                    f"{int(bad.sum())} of {len(bad)} such segments",
                )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the file at `path`, its folder included, all at once.

        Raises:
            AlreadyExists: it is there and `overwrite` is false.
            WriteFailed: the disk refused.
        """
        metadata = {
            "format": FORMAT,
            "split": self.split,
            "taxonomy": self.taxonomy,
            "anchor": anchor_name(self.anchor),
            "config": json.dumps(self.config),
            "uid": json.dumps(self.uid.tolist()),
            **({} if self.gap_s is None else {"gap_s": json.dumps(self.gap_s)}),
            **({} if self.moment is None else {"moment": json.dumps(self.moment.tolist())}),
        }
        with atomic_file(Path(path), overwrite=overwrite) as staged:
            write_tensors(staged, self._tensors(), metadata)

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        arrays = {name: getattr(self, name) for name in TENSORS}
        return {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read a file, or `predictions.safetensors` in a folder.

        Raises:
            NotFound: there is none.
            BadCheckpoint: the file is damaged, or something else.
            BadPredictions: scores are not finite.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise NotFound("no predictions here", where=path, hint=PREDICTED)
        try:
            tensors, metadata = read_tensors(path)
            if metadata.get("format") != FORMAT or not {"scores"} <= set(tensors) <= set(TENSORS):
                raise BadCheckpoint(
                    "not a file of predictions",
                    where=path,
                    expected=FORMAT,
                    found=metadata.get("format", "other tensors"),
                )
            config = parse_json(metadata["config"])
            if not isinstance(config, dict):
                raise ValueError("a config that is no JSON object")
            found = cls(
                uid=names_array(parse_json(metadata["uid"])),
                **tensors,
                split=metadata["split"],
                taxonomy=metadata["taxonomy"],
                config=config,
                anchor=_anchor(metadata),
                gap_s=parse_json(metadata.get("gap_s", "null")),
                moment=moments_in(metadata),
            )
            found.check_finite(path)
            return found
        except (BadCheckpoint, BadPredictions):
            raise
        except (ValueError, KeyError) as error:
            raise BadCheckpoint(
                "the file of predictions can't be read",
                where=path,
                found=error,
                hint=""
                if isinstance(error, NotFetched)
                else "it is damaged or something else; write it again",
            ) from error


def check_moments(
    uid: NDArray[np.str_],
    moment: NDArray[np.str_] | None,
    now: NDArray[np.str_],
    where: object,
    *,
    anchor: float = 0.0,
    than: str = "the store now has",
) -> None:
    """Check that segments that were found by their uids are those that were predicted.

    Args:
        uid: (n,) of the predictions.
        moment: (n,) of what was predicted, None where nobody says.
        now: (n,) of the segments that were found.
        where: in the message.
        anchor: of the predictions.
        than: whose they are, for the message.

    Raises:
        FingerprintMismatch: some are another time of a video than was predicted; names the first.
    """
    if moment is None:
        return
    other = uid[apart(moment, now, anchor)]
    if len(other):
        raise FingerprintMismatch(
            f"predictions for other segments of these uids than {than}",
            where=where,
            expected="the same videos and times",
            found=f"{len(other)} of {len(uid)} others, the first one {other[0]}",
            hint="where labels were corrected, make anew what was predicted before; a run's: "
            "antcache student predict",
        )


def moments_in(metadata: Mapping[str, str]) -> NDArray[np.str_] | None:
    """What a file says of its moments, if it does.

    Raises:
        ValueError: it says what are none.
    """
    if "moment" not in metadata:
        return None
    found = parse_json(metadata["moment"])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError("not a list of moments")
    if any(len(each) > MOMENT for each in found):
        raise ValueError(f"a moment of more than {MOMENT} characters")
    moments = np.asarray(found, dtype=np.str_)
    if (wrong := no_moment(moments)) is not None:
        raise ValueError(f"no moment: {wrong}")
    return moments


def _anchor(metadata: Mapping[str, str]) -> float:
    """What a file says of its anchor; that of the start if it says nothing.

    Raises:
        ValueError: it says what is none.
    """
    found = read(Anchor, metadata.get("anchor", anchor_name(0.0)))
    check_type("anchor", found, Anchor)  # BadConfig is one
    return float(found)
