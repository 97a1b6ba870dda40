"""Settings of the language-model teacher and of adaptation, checked when they are made."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from antcache.errors import BadConfig
from antcache.teacher.histories import LONGEST

CHOICES = {
    "init": ("pretrained", "random"),
    "form": ("natural", "paper"),
    "pooling": ("auto", "first", "last", "mean"),
    "metric": ("top5", "top1", "nll"),
    "precision": ("auto", "bfloat16", "float32"),
}


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Settings of the language-model teacher."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Encoder or decoder of transformers: hub id or folder, an adapted model's too."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    init: str = "pretrained"
    """`pretrained` takes the checkpoint's weights, `random` only its architecture and tokenizer."""
    form: str = "natural"
    """Text of a history: `natural` or the `paper`'s, see `antcache.teacher.language.text`."""
    length: int = 20
    """Past actions that it is told about, h: the memory's span."""
    attended: int = 5
    """How many of them are read as text: the last ones."""
    pooling: str = "auto"
    """Token whose state decides: `first`, `last` or the `mean` of all. `auto` is the first, or the
    last where attention is causal."""
    factorized: bool = True
    """Add the logits of verb and noun to the action's."""
    memory: bool = True
    """Add the recency memory, see `antcache.teacher.heads`."""
    dropout: float = 0.1
    """Dropout on the pooled state."""
    model_dropout: float | None = None
    """Dropout inside the model, everywhere; None leaves what the checkpoint says."""
    label_smoothing: float = 0.1
    """Share of each target that is spread over all classes."""
    balance: float = 0.0
    """Weight of an action: its frequency to the power of minus this, the mean over the examples
    being 1. 0: all alike; 1: inverse frequency, as the paper on EGTEA Gaze+."""
    verb_weight: float = 0.15
    """Weight of the verb's cross-entropy; the action's is what the two others leave of 1."""
    noun_weight: float = 0.15
    """Weight of the noun's cross-entropy."""
    epochs: int = 6
    """Passes over the examples."""
    batch: int = 64
    """Examples in a step, of about equal length in tokens."""
    lr: float = 1e-4
    """Highest learning rate of the model, of AdamW on one cycle (linear up, cosine down to 0)."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one below it."""
    head_lr: float = 1e-3
    """Highest learning rate of the heads."""
    memory_lr: float = 1e-2
    """The same for the memory's tables, which start at 0 and have far to go."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """Weight decay of matrices; biases, norms and tables have none."""
    held_out: float = 0.1
    """Share of the videos that are not trained on, for early stopping; 0 trains on all to the
    end."""
    metric: str = "top5"
    """What early stopping watches on them: `top5`, `top1` or `nll`."""
    patience: int = 2
    """Epochs without a better value after which training stops; the best epoch is kept."""
    precision: str = "auto"
    """Of the language model: `bfloat16` (autocast), `float32`, or `auto`, which is bfloat16 on GPUs
    and on CPUs that compute in it. Heads and loss are always float32."""
    seed: int = 0
    """Decides new weights, the videos held out, the order of the examples and what is dropped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadConfig(
                    f"unknown {name}", expected=" or ".join(choices), found=getattr(self, name)
                )
        shares = (self.label_smoothing, self.warmup, self.held_out)
        dropouts = (self.dropout, self.model_dropout or 0.0)
        weights = (self.verb_weight, self.noun_weight, 1 - self.verb_weight - self.noun_weight)
        rates = (self.lr, self.head_lr, self.memory_lr)
        if (
            not self.model
            or not 1 <= self.attended <= self.length <= LONGEST
            or min(self.epochs, self.batch, self.patience) < 1
            or not all(0 <= s < 1 for s in (*shares, *dropouts))
            or min(weights) < 0
            or not all(0 < r < math.inf for r in rates)
            or not 0 < self.layer_decay <= 1
            or not 0 <= self.balance <= 1
            or not 0 <= self.weight_decay < math.inf
        ):
            raise BadConfig(
                "impossible language-model teacher",
                expected=f"a model, 1 <= attended <= length <= {LONGEST}, epochs, batch and "
                "patience >= 1, dropouts, label_smoothing, warmup and held_out in [0, 1), weights "
                "in [0, 1], rates > 0, layer_decay in (0, 1], balance in [0, 1]",
                found=self,
            )


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Settings of the masked-LM training."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Encoder of transformers: hub id or folder."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    init: str = "pretrained"
    """`pretrained` takes the checkpoint's weights, `random` only its architecture and tokenizer."""
    form: str = "paper"
    """Text of a recipe: `paper` or `natural`, see `antcache.teacher.language.text`."""
    actions: int = 20
    """Most actions of one text; longer recipes are cut."""
    steps: int = 2000
    """Steps of the optimiser."""
    batch: int = 64
    """Texts that are computed at once."""
    accumulate: int = 1
    """How often, before each step."""
    lr: float = 1e-4
    """Highest learning rate, of AdamW on one cycle (linear up, cosine down to 0)."""
    warmup: float = 0.06
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """Weight decay of matrices; biases and norms have none."""
    mask: float = 0.15
    """Share of the tokens that are to be predicted."""
    save_every: int = 500
    """Steps between two savings of the training's state."""
    precision: str = "auto"
    """`bfloat16` (autocast), `float32`, or `auto`, see `LanguageConfig`."""
    seed: int = 0
    """Decides new weights, the order of the texts, what is masked and what is dropped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        for name in ("init", "form", "precision"):
            if getattr(self, name) not in CHOICES[name]:
                raise BadConfig(
                    f"unknown {name}",
                    expected=" or ".join(CHOICES[name]),
                    found=getattr(self, name),
                )
        if (
            not self.model
            or min(self.actions, self.steps, self.batch, self.accumulate, self.save_every) < 1
            or not 0 < self.mask < 1
            or not 0 < self.lr < math.inf
            or not 0 <= self.warmup < 1
            or not 0 <= self.weight_decay < math.inf
        ):
            raise BadConfig(
                "impossible adaptation",
                expected="a model; actions, steps, batch, accumulate and save_every >= 1, mask in "
                "(0, 1), lr > 0, warmup in [0, 1), weight_decay >= 0",
                found=self,
            )
