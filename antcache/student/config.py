"""What is trained and how: one frozen record, and the published settings by name.

Promise: a `StudentConfig` is checked when it is made, is saved with every run, and together with
the store determines the run (on one device and library version).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from antcache.annotations import Protocol
from antcache.errors import BadConfig

OPTIMISERS = ("adamw", "adam", "sgd")
PRECISIONS = ("auto", "float32", "bfloat16")
WINDOWS = ("auto", "pack", "stream")


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Settings of one run."""

    head: str = "light"
    """Name of the head in `heads.HEADS`."""
    layers: int | None = None
    """Blocks of the head; None for the head's own number."""
    heads: int | None = None
    """Attention heads of a block; None for the head's own number."""
    width: int | None = None
    """Width of the blocks; None for the head's own."""
    dropout: float | None = None
    """Dropout before the classifier; None for the head's own."""

    stream: str | None = None
    """Feature stream; None for the only one in the store."""
    protocol: Protocol | None = None
    """Windows; None for the dataset's own protocol."""
    train_split: str = "train"
    """Split that is trained on."""
    validation_split: str = "validation"
    """Split that is scored after the epochs, and never selected on."""
    allow_missing: bool = False
    """Leave segments out whose features are missing, instead of refusing to train."""

    targets: str | None = None
    """Soft targets to distil from; None trains on labels alone."""
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

    feature_weight: float = 0.0
    """Weight of the mean squared error between decoded and next features."""
    past_weight: float = 0.0
    """Weight of the cross-entropy of past frames."""
    label_smoothing: float = 0.0
    """Share of the label that is spread over all classes, in [0, 1)."""

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

    seed: int = 0
    """Determines initial weights, order and dropout."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    precision: str = "auto"
    """auto (bfloat16 on CUDA), float32 or bfloat16; weights and losses are float32 in any case."""
    windows: str = "auto"
    """pack (all on the device), stream (read batch by batch while training), or auto (pack if they
    fit the device's free memory); what is learned on a CPU is the same."""
    evaluate_every: int = 1
    """Epochs between scorings of the validation split; the last epoch is always scored."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; the last epoch always has one."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluate_every", "checkpoint_every"):
            self._check(name, 1)
        for name in ("layers", "heads", "width", "top_k"):
            if getattr(self, name) is not None:
                self._check(name, 1)
        for name in ("weight", "feature_weight", "past_weight", "weight_decay", "warmup_epochs"):
            self._check(name, 0)
        for name in ("lr", "temperature"):
            self._check(name, 0, strict=True)
        if self.grad_clip is not None:
            self._check("grad_clip", 0, strict=True)
        self._check("seed", 0)
        for name in ("dropout", "label_smoothing"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise BadConfig(f"impossible {name}", expected="0 to below 1", found=value)
        listed = {"optimiser": OPTIMISERS, "precision": PRECISIONS, "windows": WINDOWS}
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
            )
        if self.top_k is not None and self.targets is None:
            raise BadConfig("top_k has no effect without soft targets", hint="name them: targets")

    def _check(self, name: str, low: float, *, strict: bool = False) -> None:
        value = getattr(self, name)
        if not (value > low if strict else value >= low) or not math.isfinite(value):
            bound = f"above {low}" if strict else f"at least {low}"
            raise BadConfig(f"impossible {name}", expected=bound, found=value)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudentConfig:
        """Config from its `to_dict` form.

        Raises:
            BadConfig: a setting is unknown or impossible.
        """
        unknown = sorted(set(values).difference(f.name for f in fields(cls)))
        if unknown:
            raise BadConfig("unknown settings of a student", found=", ".join(unknown))
        protocol = values.get("protocol")
        window = None if protocol is None else Protocol(**protocol)
        return cls(**{**values, "protocol": window})


_EK55 = StudentConfig(
    head="avth",
    layers=12,
    heads=8,
    width=2048,
    dropout=0.8,
    feature_weight=2.0,
    optimiser="adam",
    lr=5e-6 * 4,
    weight_decay=1e-4,
    batch_size=32 * 4,
    epochs=20,
    warmup_epochs=5,
    grad_clip=None,
)

PRESETS = {
    "ek55-tsn": _EK55,
    "ek55-ircsn": StudentConfig(**{**vars(_EK55), "warmup_epochs": 0}),
    "egtea-tsn": StudentConfig(
        head="avth",
        layers=2,
        heads=4,
        width=2048,
        dropout=0.8,
        feature_weight=1.0,
        past_weight=0.1,
        optimiser="sgd",
        lr=1e-3 * 2,
        weight_decay=1e-6,
        batch_size=64 * 2,
        epochs=15,
        warmup_epochs=0,
        grad_clip=None,
    ),
}
"""Published settings of AVT-h (facebookresearch/AVT, `expts/`), whose learning rates and batches
are those of one GPU times the number of GPUs."""


def find_preset(name: str) -> StudentConfig:
    """The published settings called `name`.

    Raises:
        BadConfig: there are none of this name.
    """
    if name not in PRESETS:
        raise BadConfig("unknown preset", expected=" or ".join(PRESETS), found=name)
    return PRESETS[name]
