"""Settings of the language-model teacher and of adaptation, checked when they are made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from antcache.checks import Count, Positive, Range, Seed, Share, Weight, at_least, check_types
from antcache.errors import BadConfig
from antcache.teacher.histories import Length
from antcache.teacher.trained import TrainedSettings


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Which language model is taken, and how it computes."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Encoder or decoder of transformers: hub id or folder, an adapted model's too."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    init: Literal["pretrained", "random"] = "pretrained"
    """`pretrained` takes the checkpoint's weights, `random` only its architecture and tokenizer."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the language model: `bfloat16` (autocast), `float32`, or `auto`, which is bfloat16 on GPUs
    and on CPUs that compute in it. Heads and loss are always float32."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", os.fspath(self.model))
        check_types(self)
        if not self.model:
            raise BadConfig("no model", expected="a hub id or a folder")


@dataclass(frozen=True, kw_only=True)
class LanguageConfig(TrainedSettings, ModelSettings):
    """Settings of the language-model teacher."""

    form: Literal["natural", "paper"] = "natural"
    """Text of a history: `natural` or the `paper`'s, see `antcache.teacher.language.text`."""
    attended: Length = 5
    pooling: Literal["auto", "first", "last", "mean"] = "auto"
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
    balance: Annotated[float, Range(0, 1)] = 0.0
    """Weight of an action: its frequency to the power of minus this, the mean over the examples
    being 1. 0: all alike; 1: inverse frequency, as the paper on EGTEA Gaze+."""
    epochs: Count = 6
    batch: Count = 64
    """Examples in a step, of about equal length in tokens."""
    lr: Positive = 1e-4
    """Highest learning rate of the model, of AdamW on one cycle (linear up, cosine down to 0)."""
    layer_decay: Annotated[float, Range(0, 1, above=True)] = 1.0
    """Factor of the learning rate from each layer to the one below it."""
    head_lr: Positive = 1e-3
    """Highest learning rate of the heads."""
    warmup: Share = 0.1
    weight_decay: Weight = 0.01
    held_out: Share = 0.1
    """Share of the videos that are not trained on, for early stopping; 0 trains on all to the
    end."""
    metric: Literal["top5", "top1", "nll"] = "top5"
    """What early stopping watches on them."""
    patience: Count = 2
    """Epochs without a better value after which training stops; the best epoch is kept."""

    def __post_init__(self) -> None:
        ModelSettings.__post_init__(self)
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class PromptedConfig(ModelSettings):
    """Settings of the teacher that asks a decoder as it is."""

    model: str = "HuggingFaceTB/SmolLM2-135M"
    """Decoder of transformers: hub id or folder."""
    prompt: str = "What a cook does in the kitchen, one thing after the other:"
    """What the text begins with; the past actions follow, a comma behind each."""
    length: Length = 20
    """Past actions that it is told about, of which it reads the last `attended`."""
    attended: Length = 5
    normalize: Literal["none", "tokens"] = "none"
    """Score of an action: the sum of its tokens' log-probabilities (`none`), or their mean over its
    tokens, from which long names profit (`tokens`)."""
    against_empty: bool = False
    """Subtract what it is worth without any past action: names that are likely anywhere step back
    (Holtzman et al. 2021, domain-conditional PMI)."""
    batch: Count = 64
    """Actions whose names are computed at once."""
    seed: Seed = 0
    """Draws weights with `init` `random`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("attended", self.attended, 1, self.length)
        if not self.prompt.strip():
            raise BadConfig("no prompt", expected="some words", found=repr(self.prompt))


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(ModelSettings):
    """Settings of the masked-LM training of an encoder."""

    form: Literal["natural", "paper"] = "paper"
    """Text of a recipe, see `antcache.teacher.language.text`."""
    actions: Count = 20
    """Most actions of one text; longer recipes are cut."""
    steps: Count = 2000
    """Steps of the optimizer."""
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
    seed: Seed = 0
    """Decides new weights, the order of the texts, what is masked and what is dropped."""
