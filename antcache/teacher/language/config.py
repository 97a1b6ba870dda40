"""Settings of the language-model teacher and of adaptation, checked when they are made."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Annotated

from antcache.checks import (
    Count,
    Positive,
    Range,
    Seed,
    Share,
    Weight,
    at_least,
    check_types,
    one_of,
)
from antcache.errors import BadConfig
from antcache.teacher.heads import check_task_weights
from antcache.teacher.histories import Length

CHOICES = {
    "init": ("pretrained", "random"),
    "form": ("natural", "paper"),
    "pooling": ("auto", "first", "last", "mean"),
    "metric": ("top5", "top1", "nll"),
    "precision": ("auto", "bfloat16", "float32"),
}


def _check_choices(config: LanguageConfig | AdaptConfig) -> None:
    if not config.model:
        raise BadConfig("no model", expected="a hub id or a folder")
    for field in fields(config):
        if field.name in CHOICES:
            one_of(field.name, getattr(config, field.name), CHOICES[field.name])


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
    length: Length = 20
    """Past actions that it is told about, h: the memory's span."""
    attended: Length = 5
    """How many of them are read as text: the last ones."""
    pooling: str = "auto"
    """Token whose state decides: `first`, `last` or the `mean` of all. `auto` is the first, or the
    last where attention is causal."""
    factorized: bool = True
    """Add the logits of verb and noun to the action's."""
    memory: bool = True
    """Add the recency memory, see `antcache.teacher.heads`."""
    dropout: Share = 0.1
    """Dropout on the pooled state."""
    model_dropout: Share | None = None
    """Dropout inside the model, everywhere; None leaves what the checkpoint says."""
    label_smoothing: Share = 0.1
    """Share of each target that is spread over all classes."""
    balance: Annotated[float, Range(0, 1)] = 0.0
    """Weight of an action: its frequency to the power of minus this, the mean over the examples
    being 1. 0: all alike; 1: inverse frequency, as the paper on EGTEA Gaze+."""
    verb_weight: Weight = 0.15
    """Weight of the verb's cross-entropy; the action's is what the two others leave of 1."""
    noun_weight: Weight = 0.15
    """Weight of the noun's cross-entropy."""
    epochs: Count = 6
    """Passes over the examples."""
    batch: Count = 64
    """Examples in a step, of about equal length in tokens."""
    lr: Positive = 1e-4
    """Highest learning rate of the model, of AdamW on one cycle (linear up, cosine down to 0)."""
    layer_decay: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Factor of the learning rate from each layer to the one below it."""
    head_lr: Positive = 1e-3
    """Highest learning rate of the heads."""
    memory_lr: Positive = 1e-2
    """The same for the memory's tables, which start at 0 and have far to go."""
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: Weight = 0.01
    """Weight decay of matrices; biases, norms and tables have none."""
    held_out: Share = 0.1
    """Share of the videos that are not trained on, for early stopping; 0 trains on all to the
    end."""
    metric: str = "top5"
    """What early stopping watches on them: `top5`, `top1` or `nll`."""
    patience: Count = 2
    """Epochs without a better value after which training stops; the best epoch is kept."""
    precision: str = "auto"
    """Of the language model: `bfloat16` (autocast), `float32`, or `auto`, which is bfloat16 on GPUs
    and on CPUs that compute in it. Heads and loss are always float32."""
    seed: Seed = 0
    """Decides new weights, the videos held out, the order of the examples and what is dropped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        check_types(self)
        _check_choices(self)
        at_least("attended", self.attended, 1, self.length)
        check_task_weights(self.verb_weight, self.noun_weight)


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
    actions: Count = 20
    """Most actions of one text; longer recipes are cut."""
    steps: Count = 2000
    """Steps of the optimiser."""
    batch: Count = 64
    """Texts that are computed at once."""
    accumulate: Count = 1
    """How often, before each step."""
    lr: Positive = 1e-4
    """Highest learning rate, of AdamW on one cycle (linear up, cosine down to 0)."""
    warmup: Share = 0.06
    """Share of the steps in which the learning rate rises."""
    weight_decay: Weight = 0.01
    """Weight decay of matrices; biases and norms have none."""
    mask: Annotated[float, Range(0, 1, above=True, below=True)] = 0.15
    """Share of the tokens that are to be predicted."""
    save_every: Count = 500
    """Steps between two savings of the training's state."""
    precision: str = "auto"
    """`bfloat16` (autocast), `float32`, or `auto`, see `LanguageConfig`."""
    seed: Seed = 0
    """Decides new weights, the order of the texts, what is masked and what is dropped."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        check_types(self)
        _check_choices(self)
