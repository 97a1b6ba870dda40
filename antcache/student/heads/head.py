"""The protocol of heads: what stands between the features of a window and the next action's scores.

Promise: every head takes features (B, T, D), or (B, T, K, D) if it takes rows of tokens, and gives
a `HeadOutput`; its output at time t depends on inputs up to t alone. `heads.HEADS` names them; a
head of one's own is a subclass of `Head` in a file of its own and one entry there (docs/student.md
has one in full).
Letters: B batch, T time, K tokens of a row, D feature, S state, C classes, V verbs, O nouns, M
teachers, E teacher's feature, Z slots.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antcache.annotations import Protocol, Taxonomy
from antcache.checks import MANY
from antcache.errors import BadConfig
from antcache.store import Stream
from antcache.timebase import exact_ceil
from antcache.windows.reading.stream_rows import tokens_read
from antcache.windows.teacher_targets import ALIGNED


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What a student has to fit: its data, and its teachers.

    Attributes:
        dims: width of each feature stream; the features are these side by side.
        num_classes: actions, C.
        num_frames: frames of a window, T.
        steps_ahead: frames from the window's last one to the action's start, at the window's rate.
        num_verbs: V, 0 where actions are single labels.
        num_nouns: O, likewise.
        num_teachers: M, 0 without soft targets.
        teacher_dims: width of each teacher's features, empty where they are not aligned with.
        tokens: tokens of a row that a window reads, K; 1 where a row is one vector.
    """

    dims: tuple[int, ...]
    num_classes: int
    num_frames: int
    steps_ahead: int = 1
    num_verbs: int = 0
    num_nouns: int = 0
    num_teachers: int = 0
    teacher_dims: tuple[int, ...] = ()
    tokens: int = 1

    @classmethod
    def of(
        cls,
        taxonomy: Taxonomy,
        streams: Sequence[Stream],
        protocol: Protocol,
        *,
        num_teachers: int = 0,
        teacher_dims: tuple[int, ...] = (),
    ) -> ModelShape:
        """The shape of a student for windows of `streams` under `protocol`.

        Raises:
            BadConfig: see `stream_rows.tokens_read`.
        """
        return cls(
            dims=tuple(stream.dim for stream in streams),
            num_classes=len(taxonomy.actions),
            num_frames=protocol.num_frames,
            steps_ahead=int(exact_ceil(protocol.gap_s * protocol.rate)),
            num_verbs=len(taxonomy.verbs),
            num_nouns=len(taxonomy.nouns),
            num_teachers=num_teachers,
            teacher_dims=teacher_dims,
            tokens=tokens_read(streams),
        )

    def check_verb_noun(self, weight: float) -> None:
        """Refuse classifiers of verbs and nouns, asked for by their `weight`, where there are none.

        Raises:
            BadConfig: there are none.
        """
        if weight and not (self.num_verbs and self.num_nouns):
            raise BadConfig(
                "`verb_noun_weight` asks for classifiers of verbs and nouns, which these actions "
                "do not have",
                expected="0",
                found=weight,
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelShape:
        """A shape as `asdict` and JSON have it; one from before there were tokens has 1.

        Raises:
            ValueError: it is none.
        """
        values = {"tokens": 1, **values}
        if set(values) != {field.name for field in fields(cls)}:
            raise ValueError(f"not the fields of a shape: {', '.join(map(str, values))}")
        for name, value in values.items():
            several = name.endswith("dims")
            numbers = value if isinstance(value, list) else [value]
            if several != isinstance(value, list) or not all(
                type(number) is int and 0 <= number <= MANY for number in numbers
            ):
                raise ValueError(f"{name} of a shape: {value!r:.60}")
        tuples = {name: tuple(values[name]) for name in ("dims", "teacher_dims")}
        return cls(**{**values, **tuples})

    @property
    def dim(self) -> int:
        """D, of all streams together."""
        return sum(self.dims)

    @property
    def window(self) -> tuple[int, ...]:
        """(T, D), or (T, K, D) of tokens: features of one window."""
        tokens = () if self.tokens == 1 else (self.tokens,)
        return (self.num_frames, *tokens, self.dim)


class HeadOutput(NamedTuple):
    """What a student makes of a batch of windows.

    A head gives the first five, verb and noun if it has classifiers for them, and may pad.

    Attributes:
        logits: (B, C) scores of the next action.
        inputs: (B, T, D) or (B, T, K, D) features as the head reads them.
        decoded: (B, T, D), at t the expectation of `inputs` at t + 1, or None if not asked for.
        past_logits: (B, T, C) scores of the action at each frame, from what was seen before it
            (at t = 0 from the frame itself), or None if not asked for; perhaps padded, too.
        state: (B, S), what the classifier reads, before dropout.
        verb_logits: (B, V) of the student's own verb classifier, or of the head's, or None
            without one.
        noun_logits: (B, O) likewise.
        teacher_scores: (B, M) attention over teachers before its softmax, or None without it.
        aligned: (B, sum of E) the state brought to the teachers' features, or None.
        padded_logits: (B, W) what the loss reads in place of `logits`, which are its first C
            columns (`Classifier.scored`), or None where a head does not pad.
        later_logits: (B, Z - 1, C) scores of the actions after the next one, one after the other,
            perhaps padded, or None of a student without slots.
    """

    logits: Tensor
    inputs: Tensor
    decoded: Tensor | None
    past_logits: Tensor | None
    state: Tensor
    verb_logits: Tensor | None = None
    noun_logits: Tensor | None = None
    teacher_scores: Tensor | None = None
    aligned: Tensor | None = None
    padded_logits: Tensor | None = None
    later_logits: Tensor | None = None

    @property
    def scores(self) -> Tensor:
        """What the loss reads: (B, W) where the head pads, else (B, C)."""
        return self.logits if self.padded_logits is None else self.padded_logits


class Head(nn.Module):
    """Base of all heads.

    Attributes:
        build: class method that makes a head of some `ModelShape`. Its keywords are those of
            `layers`, `heads`, `width`, `dropout` and `slots` that mean something to the head, with
            its own values: `build(cls, shape, *, width=256, dropout=0.3)`.
        state_dim: S, set by each head.
        per_frame: whether there are `past_logits` and `decoded` where they are asked for.
        verb_noun: whether the head gives verb and noun logits itself, as far as the shape has
            verbs and nouns; else the student classifies its state.
        takes_tokens: whether rows may be several tokens, so that features are (B, T, K, D).
    """

    build: ClassVar[Callable[..., Head]]
    state_dim: int
    per_frame: bool = True
    verb_noun: bool = False
    takes_tokens: ClassVar[bool] = False

    @abstractmethod
    def forward(self, features: Tensor, *, past: bool = False, decode: bool = False) -> HeadOutput:
        """Anticipate from float32 `features` (B, T, D), or (B, T, K, D) of K > 1 tokens.

        `past` asks for `past_logits`, `decode` for `decoded`: what only the last frame's state
        needs is all that is computed without them.
        """


def standardise(features: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Each row of each stream with mean 0 and variance 1, (B, T, D) to (B, T, D).

    Streams differ in scale by orders of magnitude (object scores and network features): each by
    itself, so that none drowns the others.
    """
    if len(dims) == 1:
        return F.layer_norm(features, features.shape[-1:])
    parts = torch.split(features, list(dims), dim=-1)
    return torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], dim=-1)


def shifted(first: Tensor, states: Tensor) -> Tensor:
    """States (B, T, S) one frame later, with `first` (B, S) at t = 0: what was known before t."""
    return torch.cat([first[:, None], states[:, :-1]], dim=1)


class Classifier(nn.Linear):
    """A linear classifier whose rows of scores can be padded, as GPUs read and write them faster.

    The parameters are those of the classes alone.
    """

    def padded(self, state: Tensor) -> Tensor:
        """Scores (..., W) of states (..., S): on a GPU W is a multiple of `ALIGNED`, else C.

        The columns from C on are 0.
        """
        columns = -self.out_features % ALIGNED if self.pads(state) else 0
        if not columns:
            return F.linear(state, self.weight, self.bias)
        weight = F.pad(self.weight, (0, 0, 0, columns))
        return F.linear(state, weight, F.pad(self.bias, (0, columns)))

    def scored(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (..., C) of states (..., S), and the same with what pads them, (..., W)."""
        padded = self.padded(state)
        alone = padded.shape[-1] == self.out_features
        return padded if alone else padded[..., : self.out_features], padded

    @staticmethod
    def pads(state: Tensor) -> bool:
        """Whether padding pays where the states are."""
        return state.is_cuda


def classifier(state_dim: int, num_classes: int) -> Classifier:
    """A linear classifier that begins with small weights, as AVT's do, and no bias."""
    layer = Classifier(state_dim, num_classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
