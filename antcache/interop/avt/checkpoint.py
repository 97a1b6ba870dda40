"""AVT's `checkpoint.pth`: the weights of its head AVT-h, under the names of `AvtHead`.

    future_predictor.encoder.weight              (H, D)
    future_predictor.gpt_model.*                 GPT-2's, of transformers: (in, out) where ours are
                                                 (out, in)
    future_predictor.decoder.weight              (D, H)
    classifiers.action, .verb, .noun             (C, D) with a bias; the last two are optional

Promise: the file is read by the restricted reader: nothing of it runs. Every weight of the head has
its place, or the file is refused and the weight is named; what stands before the head (a backbone)
is left out and said. Heads of attention are not in the weights: whoever asks knows their number.
Letters: C classes, D feature, H width.
Source: facebookresearch/AVT, `models/base_model.py` and `models/future_prediction.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadCheckpoint
from antcache.interop.arrays.pickled_tensors import read_pickle

GPT = "future_predictor.gpt_model."
ENCODER, DECODER = "future_predictor.encoder.weight", "future_predictor.decoder.weight"
KINDS = ("action", "verb", "noun")
BLOCK = {
    "ln_1": ("norm_1", False),
    "attn.c_attn": ("attention_in", True),
    "attn.c_proj": ("attention_out", True),
    "ln_2": ("norm_2", False),
    "mlp.c_fc": ("mlp_in", True),
    "mlp.c_proj": ("mlp_out", True),
}
"""Layers of a block of GPT-2: ours, and whether the weight lies the other way round."""
BUFFERS = ("attn.bias", "attn.masked_bias")
"""Causal masks, which older versions of transformers kept with the weights."""
LEFT_OUT = ("backbone.", "cls_map_", "project_mlp.", "regression_head.")
"""What has no part in the head's scores: what features come from, and other outputs."""
MOST_BLOCKS = 100
HINT = "AVT's checkpoint.pth is a file of torch.save; have it written again by torch.save"


@dataclass(frozen=True, kw_only=True)
class AvtWeights:
    """A head's weights.

    Attributes:
        tensors: float32 arrays under the names of a student with the head `avth`.
        dim: D.
        width: H.
        layers: blocks.
        classes: how many classes of each kind there are; verb and noun only with the action's.
        epoch: that the file says, or None.
        backbone: whether the file has a backbone too, which is left out.
    """

    tensors: Mapping[str, NDArray[np.float32]] = field(repr=False)
    dim: int
    width: int
    layers: int
    classes: Mapping[str, int]
    epoch: float | None
    backbone: bool


def read_checkpoint(path: Path) -> AvtWeights:
    """The head in the checkpoint at `path`.

    Raises:
        NotFound: there is no such file.
        RefusedPickle: it holds more than tensors and plain values, or is damaged.
        BadCheckpoint: it is not AVT's, or of a form of AVT that is not AVT-h.
    """
    value = read_pickle(path, hint=HINT)
    state = value
    for key in ("model", "state_dict"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            state = value[key]
            break
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise BadCheckpoint("not the weights of a model", where=path, found=type(value).__name__)
    state = {key.removeprefix("module."): one for key, one in state.items()}
    taken = _Taken(path, state)
    encoder, decoder = taken.take(ENCODER, 2), taken.take(DECODER, 2)
    width, dim = encoder.shape
    taken.check(DECODER, decoder, (dim, width))
    tensors = {"head.encoder.weight": encoder, "head.decoder.weight": decoder}
    positions = taken.take(f"{GPT}wpe.weight", 2)
    taken.check(f"{GPT}wpe.weight", positions, (len(positions), width))
    tensors["head.transformer.positions.weight"] = positions
    for part in ("weight", "bias"):
        tensors[f"head.transformer.norm.{part}"] = taken.take(f"{GPT}ln_f.{part}", 1)
    layers = _count_blocks(path, state)
    for block in range(layers):
        for theirs, (ours, turned) in BLOCK.items():
            name, own = f"{GPT}h.{block}.{theirs}", f"head.transformer.blocks.{block}.{ours}"
            weight = taken.take(f"{name}.weight", 2 if turned else 1)
            tensors[f"{own}.weight"] = weight.T if turned else weight
            tensors[f"{own}.bias"] = taken.take(f"{name}.bias", 1)
        for buffer in BUFFERS:
            taken.leave(f"{GPT}h.{block}.{buffer}")
    classes = {}
    for kind in KINDS:
        name = f"classifiers.{kind}"
        if kind != "action" and f"{name}.weight" not in state:
            continue
        weight = taken.take(f"{name}.weight", 2)
        taken.check(f"{name}.weight", weight, (len(weight), dim))
        own = "head.classifier" if kind == "action" else kind
        tensors[f"{own}.weight"], tensors[f"{own}.bias"] = weight, taken.take(f"{name}.bias", 1)
        classes[kind] = len(weight)
    if len(classes) == 2:
        raise BadCheckpoint("verbs without nouns, or nouns without verbs", where=path)
    taken.require_nothing_left()
    epoch = value.get("epoch") if isinstance(value, dict) else None
    return AvtWeights(
        tensors={name: np.ascontiguousarray(each) for name, each in tensors.items()},
        dim=dim,
        width=width,
        layers=layers,
        classes=classes,
        epoch=_number(epoch),
        backbone=any(key.startswith("backbone.") for key in state),
    )


class _Taken:
    """The tensors of a file as they are taken from it; what is left in the end is looked at."""

    def __init__(self, path: Path, state: Mapping[str, Any]) -> None:
        self._path, self._state = path, state
        self._left = {key for key in state if not key.startswith(LEFT_OUT)}

    def take(self, name: str, dims: int) -> NDArray[np.float32]:
        """A tensor of so many dimensions, as float32."""
        found = self._state.get(name)
        if found is None:
            raise BadCheckpoint(
                f"no {name}",
                where=self._path,
                expected="AVT-h: an encoder, GPT-2, a decoder and a linear classifier of actions",
                found=_first(self._left) or "nothing",
            )
        if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.ndim != dims:
            what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "no tensor"
            raise BadCheckpoint(
                f"{name} is no weight of AVT-h",
                where=self._path,
                expected=f"numbers in {dims} dimensions",
                found=what,
            )
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
            weight = np.asarray(found, dtype=np.float32)
        if not np.isfinite(weight).all():
            raise BadCheckpoint(f"{name} holds NaN or infinity", where=self._path)
        self._left.discard(name)
        return weight

    def check(self, name: str, found: NDArray[Any], shape: tuple[int, ...]) -> None:
        """Refuse a tensor of another shape."""
        if found.shape != shape:
            raise BadCheckpoint(
                f"{name} does not fit the encoder",
                where=self._path,
                expected=shape,
                found=found.shape,
            )

    def leave(self, name: str) -> None:
        """Pass over a tensor that is no weight."""
        self._left.discard(name)

    def require_nothing_left(self) -> None:
        """Refuse weights that have no place: the scores would be others without them."""
        if self._left:
            raise BadCheckpoint(
                "weights that AVT-h alone does not have",
                where=self._path,
                found=f"{len(self._left)}: {_first(self._left)}",
                hint="features would have to be mapped by them before they are stored",
            )


def _number(value: object) -> float | None:
    """A number that the file says, or None: text, NaN and more digits than a float has are none."""
    try:
        found = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _first(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:3])


def _count_blocks(path: Path, state: Mapping[str, Any]) -> int:
    begin = f"{GPT}h."
    numbers = {key[len(begin) :].partition(".")[0] for key in state if key.startswith(begin)}
    if not 1 <= len(numbers) <= MOST_BLOCKS or numbers != {str(n) for n in range(len(numbers))}:
        raise BadCheckpoint(
            "blocks of GPT-2 are not numbered from 0",
            where=path,
            expected=f"1 to {MOST_BLOCKS}",
            found=_first(numbers) or "none",
        )
    return len(numbers)
