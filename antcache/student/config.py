"""What is trained and how: one frozen record; `presets` has the published settings by name.

Promise: a `StudentConfig` is checked when it is made, is saved with every run, and together with
the store determines the run (on one device and library version).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_type_hints

from antcache.annotations import Protocol
from antcache.errors import BadConfig

OPTIMISERS = ("adamw", "adam", "sgd")
PRECISIONS = ("auto", "float32", "bfloat16")
WINDOWS = ("auto", "pack", "stream")
COMPILE = ("auto", "off", "on")
FUSIONS = ("concat", "late", "attention")
ALIGNMENTS = ("none", "cosine", "mse")
ATTENTION = "attention"
MANY = 10**6
"""More epochs, weight or rate than anybody means."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Settings of one run."""

    head: str = "light"
    """Name of the head in `heads.HEADS`."""
    layers: int | None = None
    """Blocks, or recurrent layers, of the head; None for the head's own number."""
    heads: int | None = None
    """Attention heads of a block; None for the head's own number."""
    width: int | None = None
    """Width of the blocks or layers; None for the head's own."""
    dropout: float | None = None
    """Dropout before the classifier; None for the head's own."""

    stream: str | None = None
    """Feature stream, or several with commas between (rgb,flow); None for the store's only one."""
    fusion: str = "concat"
    """Several streams: concat (side by side into one head), late (one branch each, logits averaged)
    or attention (one branch each, weighed per window by a small network)."""
    protocol: Protocol | None = None
    """Windows; None for the dataset's own protocol."""
    train_split: str = "train"
    """Split that is trained on."""
    validation_split: str = "validation"
    """Split that is scored after the epochs, and never selected on."""
    allow_missing: bool = False
    """Leave segments out whose features are missing, instead of refusing to train."""

    targets: str | None = None
    """Soft targets to distil from, or several with commas between; None trains on labels alone."""
    target_weights: str | None = None
    """Several soft targets: a number for each with commas between, `attention` (learned, differing
    by window), or the name of the joint targets of an ensemble of them, whose weights and
    temperatures are taken; None weighs them alike."""
    weight: float = 3.0
    """Weight of the distillation term, `weight * T^2 * mean KL_T`."""
    temperature: float = 2.0
    """Temperature T of the distillation term."""
    top_k: int | None = None
    """Distil within the teacher's k best classes; None takes the targets as they are stored."""
    tail: bool = False
    """With top-k targets: count all other classes as one more outcome."""
    allow_missing_targets: bool = False
    """Mask training segments that the soft targets lack, instead of refusing to train."""

    align: str = "none"
    """Bring a projection of the student's state to the teacher's feature: none, cosine or mse."""
    align_weight: float = 1.0
    """Weight of that alignment."""

    verb_noun_weight: float = 0.0
    """Weight of own verb and noun classifiers (sum of their cross-entropies); 0 has none, and verb
    and noun scores are marginals of the action scores."""
    feature_weight: float = 0.0
    """Weight of the mean squared error between decoded and next features."""
    past_weight: float = 0.0
    """Weight of the cross-entropy of past frames."""
    label_smoothing: float = 0.0
    """Share of the label that is spread over all classes, in [0, 1)."""
    logit_adjustment: float = 0.0
    """Predictions are the logits less this times the log frequency of each action in training
    (post-hoc logit adjustment), which favours rare actions: 0 for top-1, up to 1 for class-mean
    metrics. What is learned is the same."""

    optimiser: str = "adamw"
    """adamw, adam (L2 in the gradient, as published), or sgd (Nesterov momentum 0.9)."""
    lr: float = 1e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    """Weight decay; adamw leaves biases and norms out."""
    warmup_epochs: float = 1.0
    """Epochs over which the rate rises from 0; it falls to 0 along a cosine afterwards."""
    epochs: int = 20
    """Passes over the training windows; the last epoch is the one that is reported."""
    batch_size: int = 128
    """Windows per step."""
    grad_clip: float | None = 1.0
    """Largest norm of the gradient; None does not clip."""
    ema: float = 0.0
    """Decay per step of a moving average of the weights, which is then what is scored and kept, in
    [0, 1); 0 keeps no average."""
    held_out: float = 0.0
    """Share of the training videos that is not trained on and selects the best epoch, whose weights
    are then what is kept; 0 holds out none, and the last epoch is reported."""
    patience: int | None = None
    """Stop after this many epochs without a better one on the videos held out; None never stops."""
    metric: str = "action/top5"
    """Metric of `evaluation.score` on the videos held out by which epochs are compared."""

    seed: int = 0
    """Determines initial weights, order and dropout."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    precision: str = "auto"
    """float32, bfloat16, or auto (bfloat16 on CUDA and on CPUs that compute in it); weights and
    losses are float32 in any case."""
    compile: str = "auto"
    """torch.compile with CUDA graphs: auto (on CUDA, with one process), off, or on."""
    windows: str = "auto"
    """pack (all on the device), stream (read batch by batch while training), or auto (pack if they
    fit the device's free memory); what is learned on a CPU is the same."""
    evaluate_every: int = 1
    """Epochs between scorings of the validation split; the last epoch is always scored."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch always has one."""

    def __post_init__(self) -> None:
        _check_types(self)
        if self.protocol is not None:
            _check_types(self.protocol)
        for name in ("epochs", "batch_size", "evaluate_every", "checkpoint_every"):
            self._check(name, 1)
        for name, high in (("layers", 100), ("heads", 1024), ("width", 1 << 16), ("top_k", MANY)):
            if getattr(self, name) is not None:
                self._check(name, 1, high=high)
        weights = ("weight", "align_weight", "verb_noun_weight", "feature_weight", "past_weight")
        for name in (*weights, "logit_adjustment", "weight_decay", "warmup_epochs"):
            self._check(name, 0)
        for name in ("lr", "temperature"):
            self._check(name, 0, strict=True)
        if self.grad_clip is not None:
            self._check("grad_clip", 0, strict=True)
        self._check("seed", 0, high=2**63 - 1)
        for name in ("dropout", "label_smoothing", "ema", "held_out"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise BadConfig(f"impossible {name}", expected="0 to below 1", found=value)
        listed = {
            "optimiser": OPTIMISERS,
            "precision": PRECISIONS,
            "windows": WINDOWS,
            "compile": COMPILE,
            "fusion": FUSIONS,
            "align": ALIGNMENTS,
        }
        for name, choices in listed.items():
            if getattr(self, name) not in choices:
                raise BadConfig(
                    f"unknown {name}", expected=" or ".join(choices), found=getattr(self, name)
                )
        if self.warmup_epochs > self.epochs:
            raise BadConfig(
                "the warm-up is longer than the training",
                expected=f"at most {self.epochs} epochs",
                found=self.warmup_epochs,
                hint="shorten it as well: warmup_epochs, or --warmup-epochs",
            )
        if self.patience is not None:
            self._check("patience", 1)
            if not self.held_out:
                raise BadConfig(
                    "patience has no effect without videos held out of training",
                    hint="hold a share of them out: held_out 0.1",
                )
        self._check_names()

    def _check_names(self) -> None:
        """Refuse names that are empty or given twice, and what has no effect without others."""
        for name, names in (("stream", self.streams), ("targets", self.teachers)):
            if len(set(names)) < len(names) or "" in names:
                raise BadConfig(
                    f"impossible {name}",
                    expected="different names with commas between",
                    found=getattr(self, name),
                )
        if self.targets is None and self.top_k is not None:
            raise BadConfig("top_k has no effect without soft targets", hint="name them: targets")
        if self.targets is None and self.align != "none":
            raise BadConfig("align has no effect without soft targets", hint="name them: targets")
        if self.align == "none" and self.align_weight != 1:
            raise BadConfig("align_weight has no effect without align", hint="align cosine or mse")
        if self.fusion != "concat" and len(self.streams) < 2:
            raise BadConfig(
                f"fusion {self.fusion!r} has no effect on one stream",
                hint="name several: stream rgb,flow",
            )
        if self.target_weights is not None:
            if len(self.teachers) < 2:
                raise BadConfig(
                    "target_weights has no effect on one set of soft targets",
                    hint="name several: targets a,b",
                )
            self.teacher_weights  # noqa: B018 - raises

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the feature streams, empty for the only one in the store."""
        return _names(self.stream)

    @property
    def asks(self) -> dict[str, bool]:
        """What of each frame the objective needs: keywords of a student's `forward`."""
        return {"past": self.past_weight > 0, "decode": self.feature_weight > 0}

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the soft targets, empty without any."""
        return _names(self.targets)

    @property
    def teacher_weights(self) -> tuple[float, ...] | None:
        """The numbers in `target_weights`, or None where it has none.

        Raises:
            BadConfig: they are not one finite number per teacher, at least 0 and not all 0.
        """
        parts = _names(self.target_weights)
        try:
            numbers = tuple(float(part) for part in parts)
        except ValueError:
            if len(parts) > 1:
                raise self._bad_weights() from None
            return None
        if not numbers:
            return None
        if len(numbers) != len(self.teachers) or not all(0 <= w < math.inf for w in numbers):
            raise self._bad_weights()
        if not any(numbers):
            raise self._bad_weights()
        return numbers

    def _bad_weights(self) -> BadConfig:
        return BadConfig(
            "impossible target_weights",
            expected=f"{len(self.teachers)} numbers, at least 0 and not all 0, with commas between",
            found=self.target_weights,
        )

    def _check(self, name: str, low: float, *, strict: bool = False, high: float = MANY) -> None:
        value = getattr(self, name)
        above = value > low if strict else value >= low
        if not above or not value <= high:
            bound = f"above {low}" if strict else f"at least {low}"
            raise BadConfig(
                f"impossible {name}", expected=f"{bound} and at most {high}", found=value
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudentConfig:
        """Config from its `to_dict` form.

        Raises:
            BadConfig: a setting is unknown or impossible.
        """
        unknown = sorted(map(str, set(values).difference(f.name for f in fields(cls))))
        if unknown:
            raise BadConfig("unknown settings of a student", found=", ".join(unknown))
        protocol = values.get("protocol")
        window = None if protocol is None else Protocol(**protocol)
        return cls(**{**values, "protocol": window})


@functools.cache
def _hints(record: type[StudentConfig | Protocol]) -> dict[str, Any]:
    return get_type_hints(record)


def _check_types(record: StudentConfig | Protocol) -> None:
    """Refuse values of another type than annotated; a whole number may stand for a float.

    Raises:
        BadConfig: names the field.
    """
    kinds = _hints(type(record))  # type: ignore[arg-type]  # a union of types is hashable, too
    for field in fields(record):
        value, kind = getattr(record, field.name), kinds[field.name]
        accepted = kind | int if isinstance(0.0, kind) else kind
        # To Python a bool is an int.
        if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
            raise BadConfig(
                "wrong type",
                where=field.name,
                expected=str(field.type).replace(" | ", " or "),
                found=repr(value),
            )


def _names(joined: str | None) -> tuple[str, ...]:
    """`a,b` as ("a", "b"); None as ()."""
    return () if joined is None else tuple(part.strip() for part in joined.split(","))
