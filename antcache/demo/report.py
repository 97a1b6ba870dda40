"""The demo's report: one self-contained HTML page, readable without JavaScript or a network.

Promise: every number on the page comes from the run it describes; the page says how the data were
made, which seeds were used, and shows the plain student's training beside the distilled one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation.metrics import mean_and_error, true_class_ranks
from antcache.evaluation.report import Films, curves
from antcache.evaluation.report.films import Moment
from antcache.evaluation.report.page import page_environment
from antcache.files import atomic_file

PLAIN, DISTILLED = "plain", "distilled"
SIDES = {PLAIN: "a", DISTILLED: "b"}
"""How the style of reports names the two, which says their colours."""
METRICS = {
    "action/top1": "action top-1",
    "action/top5": "action top-5",
    "action/recall@5": "action class-mean recall@5",
    "verb/top1": "verb top-1",
    "noun/top1": "noun top-1",
}
"""The rows of the table: key of the metric and how the page calls it."""
CURVES = {
    "validation top-1, %": "action/top1",
    "validation class-mean recall@5, %": "action/recall@5",
}

GROUPS = (
    ("distilled right, plain wrong", (0, 1)),
    ("plain right, distilled wrong", (1, 0)),
    ("both right", (1, 1)),
    ("both wrong", (0, 0)),
)
EXAMPLES_PER_GROUP = 3


@dataclass(frozen=True, kw_only=True)
class SeedRuns:
    """One student, trained once per seed.

    Attributes:
        metrics: final metrics of each seed.
        curves: `{metric: (seeds, E)}` on the validation split, percent.
        epochs: (E,) the epochs that were scored.
        loss: (seeds, epochs) cross-entropy of the training split.
        scores: (seeds, N, C) action scores of the validation windows.
    """

    metrics: Sequence[dict[str, float]]
    curves: dict[str, NDArray[np.float64]]
    epochs: NDArray[np.int64]
    loss: NDArray[np.float64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric of the table, percent: mean and deviation, and the paired gain."""

    name: str
    teacher: float
    plain: tuple[float, float]
    distilled: tuple[float, float]
    gain: float
    errors: float
    """Sum of both standard errors."""

    @property
    def clear(self) -> bool:
        """Whether the gain is larger than both standard errors together."""
        return self.gain > self.errors


@dataclass(frozen=True, kw_only=True)
class DemoOutcome:
    """Everything that the report is made from.

    Attributes:
        taxonomy: the classes.
        segments: the N validation segments, in the order of all scores.
        teacher: metrics of the teacher on the same segments.
        teacher_scores: (N, C).
        runs: the students by name.
        steps: what was done: (step, seconds, what came of it).
        settings: every configuration by name.
    """

    taxonomy: Taxonomy
    segments: Segments
    teacher: dict[str, float]
    teacher_scores: NDArray[np.float32]
    runs: dict[str, SeedRuns]
    steps: Sequence[tuple[str, float, str]]
    settings: dict[str, Any]

    def table(self) -> list[MetricRow]:
        """The metrics side by side."""
        rows = []
        for key, name in METRICS.items():
            plain, distilled = (
                mean_and_error([m[key] for m in self.runs[student].metrics])
                for student in (PLAIN, DISTILLED)
            )
            rows.append(
                MetricRow(
                    name=name,
                    teacher=self.teacher[key],
                    plain=plain[:2],
                    distilled=distilled[:2],
                    gain=distilled[0] - plain[0],
                    errors=plain[2] + distilled[2],
                )
            )
        return rows

    def class_changes(self) -> list[tuple[str, int, float, float]]:
        """(class, segments, plain, distilled) recall@5 in percent, by falling gain."""
        labels = self.segments.action
        recalls = []
        for student in (PLAIN, DISTILLED):
            hits = np.mean(
                [true_class_ranks(scores, labels) < 5 for scores in self.runs[student].scores], 0
            )
            recalls.append(hits)
        changes = []
        for action in np.unique(labels):
            chosen = labels == action
            plain, distilled = (float(100 * hits[chosen].mean()) for hits in recalls)
            changes.append((self.taxonomy.actions[action], int(chosen.sum()), plain, distilled))
        return sorted(changes, key=lambda c: c[2] - c[3])


def write_report(outcome: DemoOutcome, films: Films, path: Path, *, example_seed: int = 0) -> None:
    """Write the page.

    Args:
        outcome: what to report.
        films: makes film strips of the videos.
        path: the HTML file.
        example_seed: draws the example segments.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    environment = page_environment(("antcache.demo", "."))
    examples, counts = _examples(outcome, films, np.random.default_rng(example_seed))
    changes = outcome.class_changes()
    page = environment.get_template("report.html").render(
        table=outcome.table(),
        seeds=len(outcome.runs[PLAIN].metrics),
        steps=outcome.steps,
        total_s=sum(seconds for _, seconds, _ in outcome.steps),
        sides=SIDES,
        curves=_curves(outcome),
        best_epochs={name: _best_epochs(runs) for name, runs in outcome.runs.items()},
        gained=[c for c in changes if c[3] > c[2]][:12],
        lost=[c for c in reversed(changes) if c[3] < c[2]][:12],
        unchanged=sum(c[3] == c[2] for c in changes),
        examples=examples,
        counts=counts,
        settings=outcome.settings,
        num_segments=len(outcome.segments),
    )
    with atomic_file(path, overwrite=True) as staged:
        staged.write_text(page, "utf-8")


def _best_epochs(runs: SeedRuns) -> tuple[float, float, int]:
    """Mean over seeds of the best epoch's and the last epoch's top-1, and the number of epochs."""
    curves = runs.curves["action/top1"]
    return float(curves.max(axis=1).mean()), float(curves[:, -1].mean()), int(runs.epochs[-1])


def _curves(outcome: DemoOutcome) -> list[tuple[curves.Panel, str]]:
    """Training curves of both students, and their drawings."""

    def of_seeds(epochs: NDArray[np.int64], values: NDArray[np.float64]) -> list[curves.Curve]:
        return [dict(zip(epochs.tolist(), own, strict=True)) for own in values.tolist()]

    students = []
    for runs in (outcome.runs[PLAIN], outcome.runs[DISTILLED]):
        scored = [of_seeds(runs.epochs, runs.curves[key]) for key in CURVES.values()]
        students.append([*scored, of_seeds(np.arange(1, runs.loss.shape[1] + 1), runs.loss)])
    titles = (*CURVES, "training cross-entropy")
    panels = [
        curves.Panel(title=title, a=a, b=b, names=(PLAIN, DISTILLED))
        for title, a, b in zip(titles, *students, strict=True)
    ]
    return [(panel, curves.draw(panel, f"curve-{i}")) for i, panel in enumerate(panels)]


def _expectation(scores: NDArray[np.float32], truth: int, names: Sequence[str]) -> list[Any]:
    """The three best classes: (name, probability in percent, whether it is the true one)."""
    from scipy.special import softmax

    probability = softmax(scores.astype(np.float64))
    best = np.argsort(-probability, kind="stable")[:3]
    return [(names[i], 100 * float(probability[i]), int(i) == truth) for i in best]


def _examples(
    outcome: DemoOutcome, films: Films, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Held-out segments drawn at random from each group, by the first seed's students."""
    segments, names = outcome.segments, outcome.taxonomy.actions
    plain, distilled = (outcome.runs[student].scores[0] for student in (PLAIN, DISTILLED))
    right = [true_class_ranks(scores, segments.action) == 0 for scores in (plain, distilled)]
    protocol = outcome.settings["protocol"]
    observed_s = (protocol["num_frames"] - 1) / protocol["rate"]
    examples: list[dict[str, Any]] = []
    moments: dict[int, Moment] = {}
    counts: dict[str, int] = {}
    for title, (plain_right, distilled_right) in GROUPS:
        members = np.flatnonzero((right[0] == plain_right) & (right[1] == distilled_right))
        counts[title] = len(members)
        chosen = rng.choice(members, min(EXAMPLES_PER_GROUP, len(members)), replace=False)
        for row in sorted(chosen):
            truth, start = int(segments.action[row]), float(segments.start_s[row])
            video = str(segments.video[row])
            moments[int(row)] = Moment(video=video, end_s=start - protocol["gap_s"], zero_s=start)
            earlier = (segments.video == segments.video[row]) & (segments.start_s < start)
            history = segments.action[earlier][np.argsort(segments.start_s[earlier])][-6:]
            examples.append(
                {
                    "group": title,
                    "row": int(row),
                    "video": video,
                    "start": start,
                    "truth": names[truth],
                    "history": [names[action] for action in history],
                    "expected": {
                        "teacher": _expectation(outcome.teacher_scores[row], truth, names),
                        PLAIN: _expectation(plain[row], truth, names),
                        DISTILLED: _expectation(distilled[row], truth, names),
                    },
                }
            )
    made = films.of(moments, observed_s)
    for each in examples:
        each["film"] = made[each.pop("row")]
    return examples, counts
