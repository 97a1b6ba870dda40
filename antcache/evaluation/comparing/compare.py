"""Two systems on the same segments: what one gains, in which classes, and what a teacher knew.

Promise: A and B are scored on the same segments and the same draws of videos, seed by seed; a
segment without a prediction is wrong. Intervals of several seeds hold the chance of videos and of
seeds: each resample draws videos *and* pairs of seeds with replacement (Owen 2007, "The pigeonhole
bootstrap"). P-values are those of one metric each and are not corrected for their number. Letters:
N segments that count, S seeds, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.checks import Amount, Count, check_types
from antcache.errors import BadConfig
from antcache.evaluation.caveats import another_task, few_classes, same_metrics
from antcache.evaluation.comparing.buckets import Buckets, sort_into_buckets
from antcache.evaluation.comparing.draws import Draws, MetricChange
from antcache.evaluation.comparing.frequency import FrequencyGroup, by_frequency
from antcache.evaluation.comparing.naming import side_names
from antcache.evaluation.comparing.sureness import SideCalibration, calibration_of
from antcache.evaluation.comparing.systems import System, as_system
from antcache.evaluation.comparing.videos import VideoChange, by_video
from antcache.evaluation.denominators import counted
from antcache.evaluation.lists import TRAIN, ListFiles, of_participants, unseen_participants
from antcache.evaluation.metrics import metrics_of
from antcache.evaluation.present import ALL, PRESENT, Classes, Present
from antcache.evaluation.scoring import load_predictions
from antcache.evaluation.sheet import UNSEEN, BootstrapConfig
from antcache.evaluation.task import Task
from antcache.store import Store

RECALL_K = 5
PLAIN = ("split", "scored_classes", "left_out", "over", "n", "unpredicted", "same", "counted_in")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """How two systems are compared."""

    over: str = "avt"
    """Which segments count, one of `denominators.DENOMINATORS` or `unseen` (participants)."""
    classes: Classes = ALL
    """Which classes can win, for all systems alike; `present` also leaves segments out."""
    sampling: BootstrapConfig = field(default_factory=BootstrapConfig)
    """Of the intervals."""
    ks: tuple[Count, ...] = (1, 5)
    """A guess is right if the truth is among the k best: buckets for each k."""
    examples: Amount = 5
    """Segments that are shown of each bucket."""

    def __post_init__(self) -> None:
        check_types(self)
        if not self.ks:
            raise BadConfig("no ks", expected="one or more")
        if self.sampling.resamples == 0:
            raise BadConfig("a comparison needs resamples", expected="2 or more", found=0)


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """Recall@5 of one class, in percent, mean over the seeds.

    Attributes:
        kind: `action`, `verb` or `noun`.
        id: of the class.
        name: of the class.
        n: its segments.
        a: recall@5 of A.
        b: recall@5 of B.
        gain: b - a.
        many_shot: whether it is on the official list; None without one.
    """

    kind: str
    id: int
    name: str
    n: int
    a: float
    b: float
    gain: float
    many_shot: bool | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that `antcache compare` says, and what a report draws from.

    Attributes:
        names: what A and B are called.
        split: which labels.
        task: what all systems were asked: the anchor, and the gap of those that say theirs.
        scored_classes: `present` if classes that do not occur never win; see `present`.
        left_out: segments that do not count for that.
        over: which segments of the split count.
        n: how many.
        unpredicted: name -> how many of them have no prediction, for every run and the teacher.
        metrics: name -> change, in the order of `metrics.metrics_of`.
        same: metrics that equal another by construction; see `caveats.same_metrics`.
        notes: what a reader has to know first, in sentences: another task than the usual one,
            unequal coverage, few classes.
        classes: every class that is present, actions first, then verbs and nouns; within a kind
            the largest gain first, then the most segments.
        counted_in: the split whose segments say how frequent a class is: the training split, or
            where the store has none, the one that is compared.
        frequency: actions by how frequent they are there, the rarest first.
        videos: every video, the largest gain first.
        calibration: of A, and of B; None of one that predicts none of the segments.
        buckets: for each k, segments that B fixed or broke, by what the teacher knew.
        segments: the N segments.
        a: the runs of A.
        b: the runs of B, each paired with that of A in the same place.
        teacher: the teacher, or None.
    """

    names: tuple[str, str]
    split: str
    task: Task
    scored_classes: Classes
    left_out: int
    over: str
    n: int
    unpredicted: dict[str, int]
    metrics: dict[str, MetricChange]
    same: dict[str, str]
    notes: tuple[str, ...]
    classes: tuple[ClassChange, ...]
    counted_in: str
    frequency: tuple[FrequencyGroup, ...]
    videos: tuple[VideoChange, ...]
    calibration: tuple[SideCalibration | None, SideCalibration | None]
    buckets: tuple[Buckets, ...]
    segments: Segments = field(repr=False)
    a: tuple[System, ...] = field(repr=False)
    b: tuple[System, ...] = field(repr=False)
    teacher: System | None = field(repr=False)

    @property
    def anchor(self) -> float:
        """What the gap was counted back from; see `Protocol.anchor`."""
        return self.task.anchor

    def gained(self, kind: str = "action") -> list[ClassChange]:
        """Classes with a higher recall@5 in B, the largest gain first."""
        return [c for c in self.classes if c.kind == kind and c.gain > 0]

    def lost(self, kind: str = "action") -> list[ClassChange]:
        """Classes with a lower recall@5 in B, the largest loss first."""
        worse = [c for c in self.classes if c.kind == kind and c.gain < 0]
        return sorted(worse, key=lambda c: (c.gain, -c.n, c.id))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, without segments and systems."""
        return {
            "a": [system.name for system in self.a],
            "b": [system.name for system in self.b],
            "names": list(self.names),
            "teacher": None if self.teacher is None else self.teacher.name,
            **self.task.to_dict(),
            **{name: getattr(self, name) for name in PLAIN},
            "notes": list(self.notes),
            "metrics": {
                name: {"mean_a": m.mean_a, "mean_b": m.mean_b, **asdict(m)}
                for name, m in self.metrics.items()
            },
            "classes": [asdict(change) for change in self.classes],
            "frequency": [asdict(group) for group in self.frequency],
            "videos": [asdict(change) for change in self.videos],
            "calibration": [side and asdict(side) for side in self.calibration],
            "buckets": [asdict(buckets) for buckets in self.buckets],
        }


def compare(
    store: Store,
    a: Sequence[str],
    b: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    teacher: str | None = None,
    split: str | None = None,
    config: CompareConfig | None = None,
) -> Comparison:
    """Compare the runs `b` with the runs `a`, paired by order.

    Args:
        store: where the labels are.
        a: S files of predictions, folders of runs or `targets/NAME`, one per seed.
        b: S of the same.
        names: what A and B are called; None: after their runs, see `naming`.
        teacher: predictions, or `targets/NAME`, by which fixed and broken segments are sorted.
        split: of the labels; None takes the one that the first of `a` names.
        config: how.

    Raises:
        BadConfig: none, or another number of runs in A and B, or a bad setting.
        FingerprintMismatch: they are not all of one anchor and gap.
        NotFound, BadCheckpoint, FingerprintMismatch, MissingKey, MissingTarget: see
            `scoring.load_predictions`.
    """
    config = config or CompareConfig()
    if not a or len(a) != len(b):
        raise BadConfig(
            "A and B are paired by order", expected="as many runs in each", found=(len(a), len(b))
        )
    a, b = [str(name) for name in a], [str(name) for name in b]
    called = side_names(a, b, names)
    taxonomy = store.taxonomy
    first = {a[0]: load_predictions(store, a[0], split)}
    split, task = first[a[0]].split, first[a[0]].task
    labels, present = store.labels(split), None
    if config.classes == PRESENT:
        present = Present.of(store, split)
        labels = labels[present.kept]
    rows = _counted(store, labels, split, config.over, task.anchor)
    segments = labels[rows]

    def system(name: str) -> System:
        nonlocal task
        found = first.pop(name, None) or load_predictions(store, name, split)
        task = task.joined(found.task, name)
        if present is not None:
            found = present.only(found)
        return as_system(found, labels, taxonomy, name)[rows]

    before, after = (tuple(system(name) for name in side) for side in (a, b))
    known = None if teacher is None else system(teacher)
    systems = [*before, *after, *([] if known is None else [known])]
    drawn = Draws.of(segments, taxonomy, config.sampling, pairs=len(a))
    counted_in = TRAIN if TRAIN in store.splits() else split
    trained_on = np.bincount(store.labels(counted_in).action, minlength=len(taxonomy.actions))
    notes = (
        another_task(task.anchor, config.classes),
        _coverage(before, after, called),
        few_classes(taxonomy),
    )
    return Comparison(
        names=called,
        split=split,
        task=task,
        scored_classes=config.classes,
        left_out=0 if present is None else len(present.left_out),
        over=config.over,
        n=len(segments),
        unpredicted={system.name: int((~system.known).sum()) for system in systems},
        metrics=_metrics(before, after, drawn),
        same=same_metrics(taxonomy, segments),
        notes=tuple(note for note in notes if note),
        classes=_classes(before, after, taxonomy),
        counted_in=counted_in,
        frequency=by_frequency(before, after, drawn, trained_on),
        videos=by_video(before, after, segments),
        calibration=(calibration_of(before), calibration_of(after)),
        buckets=tuple(
            sort_into_buckets(
                before, after, known, segments, taxonomy, k=k, examples=config.examples
            )
            for k in config.ks
        ),
        segments=segments,
        a=before,
        b=after,
        teacher=known,
    )


def _coverage(a: Sequence[System], b: Sequence[System], names: tuple[str, str]) -> str | None:
    """One sentence if the runs of a pair do not predict the same segments."""
    pairs = list(zip(a, b, strict=True))
    alone = [
        float(np.mean([np.count_nonzero(one.known & ~other.known) for one, other in ordered]))
        for ordered in (pairs, [(after, before) for before, after in pairs])
    ]
    if not any(alone):
        return None
    return (
        f"{names[0]} and {names[1]} do not predict the same segments: of {len(a[0].known)}, "
        f"{alone[0]:.10g} are predicted by {names[0]} alone and {alone[1]:.10g} by {names[1]} "
        "alone, and count as wrong for the other."
    )


def _counted(
    store: Store, segments: Segments, split: str, over: str, anchor: float
) -> NDArray[np.int64]:
    """Rows (N,) of the segments of a split that count."""
    dataset = store.taxonomy.dataset
    if over != UNSEEN:
        kept = counted(segments, over, store.protocol.at(anchor))
    else:
        names = unseen_participants(store, store.taxonomy, split, ListFiles())
        if names is None:
            raise BadConfig(
                "nobody says which participants are unseen",
                where=split,
                expected="a split of epic-kitchens-100 beside its training split",
                found=dataset,
            )
        kept = of_participants(segments, names)
    if not kept.any():
        raise BadConfig("no segment counts", where=split, found=f"over {over}")
    return np.flatnonzero(kept)


def _metrics(a: Sequence[System], b: Sequence[System], drawn: Draws) -> dict[str, MetricChange]:
    return {
        name: drawn.change(metric, a, b)
        for name, metric in metrics_of(drawn.taxonomy).items()
        if metric.defined(a[0].ranked.labels[metric.kind])
    }


def _classes(
    a: Sequence[System], b: Sequence[System], taxonomy: Taxonomy
) -> tuple[ClassChange, ...]:
    changes = []
    for kind in taxonomy.kinds:
        names = getattr(taxonomy, f"{kind}s")
        listed = getattr(taxonomy, f"many_shot_{kind}s")
        labels = a[0].ranked.labels[kind]
        present, place, n = np.unique(labels, return_inverse=True, return_counts=True)
        # Whole numbers, over all seeds: equal counts are equal, and nothing is gained by rounding.
        hits = [
            sum(
                np.bincount(place[s.ranked.ranks[kind] < RECALL_K], minlength=len(present))
                for s in side
            )
            for side in (a, b)
        ]
        recall = [100.0 * count / (n * len(a)) for count in hits]
        gain = 100.0 * (hits[1] - hits[0]) / (n * len(a))
        for i in np.lexsort([present, -n, -gain]):
            number = int(present[i])
            changes.append(
                ClassChange(
                    kind=kind,
                    id=number,
                    name=names[number],
                    n=int(n[i]),
                    a=float(recall[0][i]),
                    b=float(recall[1][i]),
                    gain=float(gain[i]),
                    many_shot=None if listed is None else number in listed,
                )
            )
    return tuple(changes)
