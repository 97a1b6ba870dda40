"""Students on simulated features, each trained once and kept in a work folder, and their teachers.

Promise: a run is one student with one seed on one store (`simulated.make_store`); the ranks of the
true actions of its validation windows and its metrics are kept (`<key>.npz`, `<key>.json`), so that
an interrupted benchmark goes on where it stopped. Other settings or another noise are another run.
Logit adjustment changes predictions alone: one training gives the outcomes of all `STRENGTHS`.
Delete the work folder to measure anew. Letters: A strengths, N validation windows, C classes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from language_models import name_embeddings, with_model
from numpy.typing import NDArray
from simulated import NOISE, STREAM, make_store
from teacher_runs import WORK
from teachers import MEMBERS

from antcache.devices import pick_device
from antcache.evaluation import score
from antcache.evaluation.metrics import true_class_ranks
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig, read_settings
from antcache.student.model import log_frequency
from antcache.student.runs.train import RunResult, train
from antcache.teacher.mixing.ensemble import EnsembleConfig, ensemble
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import history_for, teach

BASE = StudentConfig.of(
    stream=(STREAM,),
    layers=1,
    heads=4,
    width=128,
    lr=2e-3,
    epochs=8,
    evaluate_every=1000,
)
"""What all students share unless their settings say otherwise. They compute as any student does, in
bfloat16 where the processor multiplies it: elsewhere that takes many times as long as float32."""

STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Of logit adjustment (`LossConfig.logit_adjustment`)."""

JOINT = {"joint": ("count", "sequence"), "all": ("count", "sequence", "language")}
"""Teachers whose probabilities are averaged."""
FOLDS = 5
BALANCED = "balanced-"
WAYS: dict[str, tuple[str, ...]] = {
    "in-sample": (),
    "own": ("count",),
    "cross-fitted": ("count", "sequence", "language"),
}
"""Teachers that are cross-fitted; `own` is each kind's default."""


@dataclass(frozen=True, kw_only=True)
class TargetName:
    """Soft targets of a store, by what they are.

    Attributes:
        kind: of a teacher, or of `JOINT`.
        way: of `WAYS`.
        history: mode of the teachers' histories.
        balance: exponent of the class prior that joint targets are divided by.
        shuffled: given to the wrong training segments, by one random permutation.
        named: with what MiniLM makes of the name of each training segment's own action, as the
            feature that a student may be aligned with.
    """

    kind: str = "joint"
    way: str = "in-sample"
    history: str = "complete"
    balance: float = 0.0
    shuffled: bool = False
    named: bool = False

    def __str__(self) -> str:
        balanced = [f"{BALANCED}{self.balance:g}"] * bool(self.balance)
        more = ["shuffled"] * self.shuffled + ["named"] * self.named
        return "_".join([self.kind, self.way, self.history, *balanced, *more])

    @classmethod
    def parse(cls, name: str) -> TargetName:
        """The name that `str` wrote."""
        kind, way, history, *more = name.split("_")
        balance = sum(float(w.removeprefix(BALANCED)) for w in more if w.startswith(BALANCED))
        return cls(
            kind=kind,
            way=way,
            history=history,
            balance=balance,
            shuffled="shuffled" in more,
            named="named" in more,
        )

    def member(self, kind: str) -> TargetName:
        """The targets of one kind of which joint ones are made."""
        way = "cross-fitted" if kind in WAYS[self.way] else "in-sample"
        return replace(self, kind=kind, way=way, balance=0.0)


def require_targets(store: Store, name: TargetName) -> None:
    """Write these soft targets into the store unless they are there; teachers lie beside it."""
    if str(name) in store.target_names():
        return
    print(f"soft targets {name} of {store.path}", flush=True)
    folder = Path(str(store.path)).with_suffix(".teachers") / str(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if name.named:
        bare = replace(name, named=False)
        require_targets(store, bare)
        store.write_targets(str(name), with_names(store, str(bare)))
    elif name.shuffled:
        straight = replace(name, shuffled=False)
        require_targets(store, straight)
        store.write_targets(str(name), shuffled(store, str(straight)))
    elif name.kind in JOINT:
        members = tuple(name.member(kind) for kind in JOINT[name.kind])
        for member in members:
            require_targets(store, member)
        config = EnsembleConfig(members=tuple(map(str, members)), balance=name.balance)
        ensemble(store, str(name), config, folder, overwrite=True)
    else:
        config = TargetConfig(
            kind=name.kind,
            settings=with_model(MEMBERS[name.kind], WORK),
            history=history_for(store, name.history),
            folds=FOLDS if name.kind in WAYS[name.way] else 0,
        )
        device = str(pick_device("auto"))
        teach(store, str(name), config, folder, device=device, overwrite=True)


def shuffled(store: Store, name: str) -> SoftTargets:
    """Dense soft targets whose training segments have swapped rows, at random."""
    targets = store.targets(name)
    assert targets.logits is not None
    rows = targets.rows_for(store.labels("train").uid)
    rows = rows[rows >= 0]
    logits = targets.logits.copy()
    logits[rows] = targets.logits[np.random.default_rng(0).permutation(rows)]
    return replace(targets, logits=logits, attributes={**targets.attributes, "shuffled": True})


def with_names(store: Store, name: str) -> SoftTargets:
    """The soft targets with the embedding of the name of each segment's own action as `feature`.

    Of training segments alone: others have none (NaN), as nobody is to learn their labels.
    """
    targets, labels = store.targets(name), store.labels("train")
    rows = targets.rows_for(labels.uid)
    names = name_embeddings(store.taxonomy.actions)
    feature = np.full((len(targets), names.shape[1]), np.nan, dtype=np.float32)
    feature[rows[rows >= 0]] = names[labels.action[rows >= 0]]
    return replace(targets, feature=feature, attributes={**targets.attributes, "named": "minilm"})


def equal_entropy_smoothing(store: Store, settings: dict[str, Any]) -> float:
    """Label smoothing whose targets have the mean entropy of a distilled student's mixed targets.

    The mixed target of a training segment is m = (y + w q) / (1 + w): y the one-hot label, q the
    teacher's probabilities at temperature 1 (within its k best, if cut), w the weight of the
    distillation. It is what `CE(y, p) + w KL(q, p)` pulls p to: that loss is (1 + w) CE(m, p) less
    a constant. The result is the e in [0, 1) for which (1 - e) y + e / C, the target of label
    smoothing e, has the entropy that m has on average over the training segments.

    Args:
        store: with the soft targets.
        settings: a student's: `targets`, `weight` and, if cut, `top_k`.
    """
    targets, labels = store.targets(settings["targets"]), store.labels("train")
    rows = targets.rows_for(labels.uid)
    assert targets.logits is not None
    weight, k = settings["weight"], settings.get("top_k")
    total, known = 0.0, np.flatnonzero(rows >= 0)
    for part in np.array_split(known, math.ceil(len(known) / 1024)):
        logits = torch.from_numpy(targets.logits[rows[part]]).double()
        if k is not None:
            best = logits.topk(k, dim=1)
            logits = torch.full_like(logits, -math.inf).scatter(1, best.indices, best.values)
        mixed = weight * logits.softmax(dim=1)
        mixed[torch.arange(len(part)), torch.from_numpy(labels.action[part])] += 1.0
        total += float(torch.special.entr(mixed / (1 + weight)).sum())
    return smoothing_of_entropy(total / len(known), targets.logits.shape[1])


def smoothing_of_entropy(entropy: float, classes: int) -> float:
    """The e in [0, 1) for which (1 - e) y + e / C has this entropy in nats; y is one-hot."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        other = middle / classes
        true = 1 - middle + other
        own = -true * math.log(true) - (classes - 1) * other * math.log(other)
        low, high = (middle, high) if own < entropy else (low, middle)
    return low


@dataclass(frozen=True, kw_only=True)
class StudentRun:
    """One training.

    Attributes:
        dataset: `epic-kitchens-55` or `egtea`.
        part: `final` or `tuning`, see `simulated`.
        settings: what differs from `BASE`; `targets` is a `TargetName` as text.
        seed: of the student.
        noise: of the features.
    """

    dataset: str
    part: str
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    noise: float = NOISE

    @property
    def config(self) -> StudentConfig:
        """All settings."""
        return BASE.replace(**read_settings(self.settings), seed=self.seed)

    @property
    def unadjusted(self) -> StudentConfig:
        """What is trained."""
        return self.config.replace(logit_adjustment=0.0)

    @property
    def key(self) -> str:
        """Hash of what is trained: all settings that differ from the defaults of a student."""
        standard = StudentConfig().values
        differ = {k: v for k, v in self.unadjusted.values.items() if v != standard[k]}
        about = {**asdict(self), "settings": differ}
        text = json.dumps(about, sort_keys=True)
        return f"student-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class StudentOutcome:
    """What a run came to on the validation windows of its store.

    Attributes:
        metrics: see `antcache.evaluation.score`, percent.
        ranks: (N,) rank of the true action, 0 for the best.
        action: (N,) the true action.
        video: (N,) the window's video.
        seconds: of the training.
    """

    metrics: dict[str, float]
    ranks: NDArray[np.int64]
    action: NDArray[np.int64]
    video: NDArray[np.str_]
    seconds: float


def outcome(run: StudentRun, work: Path) -> StudentOutcome:
    """The run's outcome with the logit adjustment of its settings, one of `STRENGTHS`."""
    return outcomes(run, work)[run.config.losses.logit_adjustment]


def outcomes(run: StudentRun, work: Path) -> dict[float, StudentOutcome]:
    """The run's outcome by the strength of logit adjustment.

    It is trained now unless it is kept; teachers are trained as they are needed.
    """
    work.mkdir(parents=True, exist_ok=True)
    kept, about = work / f"{run.key}.npz", work / f"{run.key}.json"
    if not kept.is_file():
        store = make_store(work, run.dataset, run.part, run.noise)
        for name in run.config.distillation.targets:
            require_targets(store, TargetName.parse(name))
        print(f"training {run.dataset}, {run.part}, seed {run.seed}, {run.settings}", flush=True)
        started = time.perf_counter()
        result = train(store, None, run.unadjusted)
        seconds = time.perf_counter() - started
        labels = store.labels("validation")
        row_of = {uid: row for row, uid in enumerate(labels.uid.tolist())}
        segments = labels[np.array([row_of[uid] for uid in result.predictions.uid.tolist()])]
        adjusted = [result.predictions.scores - a * frequencies(store, result) for a in STRENGTHS]
        metrics = [score(scores, segments, store.taxonomy) for scores in adjusted]
        account = {**asdict(run), "metrics": metrics, "seconds": seconds}
        about.write_text(json.dumps(account, indent=1) + "\n", "utf-8")
        staged = work / f".{run.key}.{os.getpid()}.npz"
        np.savez(
            staged,
            ranks=np.stack([true_class_ranks(scores, segments.action) for scores in adjusted]),
            action=segments.action,
            video=segments.video,
        )
        staged.rename(kept)  # last: its presence means done
    found = json.loads(about.read_text("utf-8"))
    with np.load(kept) as arrays:
        ranks, action, video = (arrays[name] for name in ("ranks", "action", "video"))
    return {
        strength: StudentOutcome(
            metrics=metrics, ranks=own, action=action, video=video, seconds=found["seconds"]
        )
        for strength, metrics, own in zip(STRENGTHS, found["metrics"], ranks, strict=True)
    }


def frequencies(store: Store, result: RunResult) -> NDArray[np.float32]:
    """Log frequency (C,) of the actions that the run was trained on."""
    labels = store.labels("train")
    dropped = [uid for uids in result.dropped["train"].values() for uid in uids]
    action = torch.from_numpy(labels.action[~np.isin(labels.uid, dropped)])
    frequency: NDArray[np.float32] = log_frequency(action, len(store.taxonomy.actions)).numpy()
    return frequency.astype(np.float32)
