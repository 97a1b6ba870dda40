"""Several teachers as one: what a mixture is, what it gives, and the folder that it is kept in.

Promise: a mixture is a weighted mean of the members' *probabilities*, each at its own temperature
(of their logarithms if it is `geometric`); it is frozen, treats every row alone, and gives
normalised log-probabilities. A folder holds `mixture.json` and, where there is more than a few
numbers, `mixture.safetensors`; no pickle.

    p(c) = sum_m a_m softmax(z_m / T_m)(c),    then  p(c) / prior(c) ** balance,  normalised

- `mean`: a_m = 1/M and T_m = 1.
- `geometric`: the same, of logarithms, normalised: what one member holds for unlikely is so for all
  (a product of experts, Hinton 2002).
- `stack`: a on the simplex and T, learned on held-out rows (Wolpert 1992; `mixing.fit`).
- `attention`: as stack, but a depends on the row: softmax over teachers of a score that a small
  network per teacher gives to that teacher's own distribution, see `summarize`.

The distillation paper's code (Ghosh et al. 2023, StonyBrookNLP/action-anticipation-lmtovideo) mixes
teachers by attention whose query is the student's feature and whose keys are the teachers'
features; there it is commented out, and belongs to no optimiser. Here, where there is no student,
each teacher's key alone scores it. Its key is a summary of its distribution and not its last
layer: cross-fitted teachers are several networks, whose features can't be compared.

`balance` is the logit adjustment of Menon et al. 2021 (arXiv 2007.07314): it trades calibration for
class-mean recall, so it is 0 unless asked for.

Letters: M teachers, N segments, n rows, C classes, F numbers of a summary.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from antcache import __version__
from antcache.checks import one_of
from antcache.errors import BadCheckpoint, BadConfig, NotFound
from antcache.evaluation.metrics import blocks
from antcache.files import FolderKind, atomic_folder
from antcache.tensors import read_tensors, write_tensors
from antcache.untrusted import read_json

Floats = NDArray[np.float64]
Logits = Sequence[NDArray[np.float32]]

FORMAT = "antcache-mixture-1"
SETTINGS_FILE = "mixture.json"
ARRAYS_FILE = "mixture.safetensors"
OUTPUT = FolderKind(what="a mixture", mark=SETTINGS_FILE)
MIXES = ("mean", "geometric", "stack", "attention")
LEARNED = ("stack", "attention")
"""Those whose weights are learned."""
CHUNK_ROWS = 256  # of M x C float64 at a time
BEST = 5  # log-probabilities of a summary
FLOOR = 1e-9  # probability below which a summary tells no difference


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """M teachers mixed into one; see the module.

    Attributes:
        members: names of the M teachers, in the order of their logits.
        kind: one of `MIXES`.
        weights: M shares, summing to 1; with attention, the ones of the stack that it starts from.
        temperatures: M, each teacher's logits are divided by its own.
        balance: exponent of the class prior that the probabilities are divided by.
        log_prior: (C,) float64, where `balance` is not 0.
        network: of the attention, by name: `mean`, `scale` (M, F), `in_weight` (M, F, H), `in_bias`
            (M, 1, H), `out_weight` (M, H, 1), `out_bias` (M, 1, 1), all float64.
    """

    members: tuple[str, ...]
    kind: str
    weights: tuple[float, ...]
    temperatures: tuple[float, ...]
    balance: float = 0.0
    log_prior: Floats | None = None
    network: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.members) == len(self.weights) == len(self.temperatures) > 0:
            raise BadConfig("a mixture needs a weight and a temperature for each member")
        one_of("mixture", self.kind, MIXES)
        if (self.kind == "attention") != bool(self.network):
            raise BadConfig("attention and a network need each other", found=self.kind)
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > 1e-6:
            raise BadConfig("weights must be shares of 1", found=self.weights)
        if min(self.temperatures) <= 0:
            raise BadConfig("temperatures must be above 0", found=self.temperatures)
        if (self.log_prior is None) != (self.balance == 0):
            raise BadConfig("a balance and a class prior need each other", found=self.balance)

    def mix(self, logits: Logits, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Log-probabilities (n, C) of the mixture.

        Args:
            logits: M arrays (N, C), finite at `rows`.
            rows: (n,) rows to mix; None mixes all N.

        Raises:
            BadConfig: another number of teachers, or arrays of unequal shapes.
        """
        check_shapes(logits, len(self.members))
        rows = np.arange(len(logits[0])) if rows is None else rows
        mixed = np.empty((len(rows), logits[0].shape[1]), dtype=np.float32)
        for part, chunk in chunks(logits, rows):
            mixed[part] = self._mix(chunk)
        return mixed

    def row_weights(self, logits: Logits, rows: NDArray[np.int64] | None = None) -> Floats:
        """Shares (n, M) of the teachers in each row: what several teachers are distilled with.

        Arguments and errors as `mix`.
        """
        check_shapes(logits, len(self.members))
        rows = np.arange(len(logits[0])) if rows is None else rows
        if self.kind != "attention":
            return np.tile(np.asarray(self.weights), (len(rows), 1))
        shares = np.empty((len(rows), len(self.members)))
        for part, chunk in chunks(logits, rows):
            shares[part] = np.exp(self._log_weights(chunk)).T
        return shares

    def _mix(self, chunk: Floats) -> Floats:
        log_p = log_softmax(chunk / np.asarray(self.temperatures)[:, None, None], axis=-1)
        if self.kind == "geometric":
            mixed: Floats = log_softmax(np.tensordot(self.weights, log_p, axes=1), axis=-1)
        else:
            mixed = log_mix(log_p, self._log_weights(chunk)[..., None])
        if self.log_prior is not None:
            mixed = log_softmax(mixed - self.balance * self.log_prior, axis=-1)
        return mixed

    def _log_weights(self, chunk: Floats) -> Floats:
        """Log of the teachers' shares, (M, n) or (M, 1), for logits (M, n, C)."""
        if self.kind == "attention":
            network = {k: torch.from_numpy(v) for k, v in self.network.items()}
            summary = torch.from_numpy(summarize(log_softmax(chunk, axis=-1)))
            shares: Floats = log_softmax(attention_scores(summary, network).numpy(), axis=0)
        else:
            with np.errstate(divide="ignore"):
                shares = np.log(np.asarray(self.weights, dtype=np.float64))[:, None]
        return shares


def mean_mix(members: Sequence[str], kind: str = "mean") -> Mixture:
    """The mean of the members' probabilities, or their `geometric` one."""
    count = len(members)
    return Mixture(
        members=tuple(members), kind=kind, weights=(1 / count,) * count, temperatures=(1,) * count
    )


def log_mix(log_p: Floats, log_weights: Floats) -> Floats:
    """Log of the weighted sum over the first axis of exp(`log_p`), without underflow."""
    # scipy's logsumexp takes five times as long, and this is most of mixing.
    parts = log_p + log_weights
    peak = parts.max(axis=0)
    mixed: Floats = peak + np.log(np.exp(parts - peak).sum(axis=0))
    return mixed


def check_shapes(logits: Logits, teachers: int) -> None:
    """Raise BadConfig unless there are as many arrays as teachers, all (N, C)."""
    shapes = {a.shape for a in logits}
    if len(logits) != teachers or len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise BadConfig(
            "logits do not fit the mixture",
            expected=f"{teachers} arrays of one shape (segments, classes)",
            found=[a.shape for a in logits],
        )


def chunks(logits: Logits, rows: NDArray[np.int64]) -> Iterator[tuple[slice, Floats]]:
    """Places in `rows`, and the logits (M, n, C) there in float64, a few rows at a time."""
    for part in blocks(len(rows), CHUNK_ROWS):
        yield part, np.stack([a[rows[part]] for a in logits]).astype(np.float64)


def summarize(log_p: Floats) -> Floats:
    """What the attention knows about each teacher's distribution: (M, n, F).

    The entropy; the 5 highest log-probabilities; the log-probability that the other teachers (their
    mean) give to its best class; and the one that it gives to theirs.

    Args:
        log_p: log-probabilities (M, n, C) of at least two teachers.
    """
    p = np.exp(log_p)
    count = min(BEST, log_p.shape[-1])
    best = np.sort(np.partition(log_p, -count)[..., -count:])
    others = (p.sum(axis=0) - p) / (len(p) - 1)
    own_best = log_p.argmax(axis=-1)[..., None]
    their_best = others.argmax(axis=-1)[..., None]
    return np.concatenate(
        [
            -(p * log_p).sum(axis=-1, keepdims=True),
            np.maximum(best, np.log(FLOOR)),
            np.log(np.maximum(np.take_along_axis(others, own_best, axis=-1), FLOOR)),
            np.maximum(np.take_along_axis(log_p, their_best, axis=-1), np.log(FLOOR)),
        ],
        axis=-1,
    )


def attention_scores(summary: Tensor, network: Mapping[str, Tensor]) -> Tensor:
    """Score (M, n) of each teacher: one hidden layer over its own summary (M, n, F)."""
    x = (summary - network["mean"][:, None]) / network["scale"][:, None]
    hidden = torch.tanh(x @ network["in_weight"] + network["in_bias"])
    return (hidden @ network["out_weight"] + network["out_bias"])[..., 0]


def save_mixture(
    mixture: Mixture,
    folder: Path,
    *,
    about: Mapping[str, Any],
    overwrite: bool = False,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Keep a mixture, with a JSON-ready account of how it came about; it appears all at once.

    `beside` are further text files by name.

    Raises:
        AlreadyExists: something is at `folder` and `overwrite` is false, or it is not a mixture.
        WriteFailed: the disk refused.
    """
    plain = ("members", "kind", "weights", "temperatures", "balance")
    settings = {k: getattr(mixture, k) for k in plain}
    arrays = {f"network.{k}": np.ascontiguousarray(v) for k, v in mixture.network.items()}
    if mixture.log_prior is not None:
        arrays["log_prior"] = mixture.log_prior
    text = {"format": FORMAT, "antcache": __version__, "mixture": settings, "about": dict(about)}
    with atomic_folder(folder, OUTPUT, overwrite=overwrite) as staged:
        if arrays:
            write_tensors(staged / ARRAYS_FILE, arrays)
        (staged / SETTINGS_FILE).write_text(json.dumps(text, indent=1) + "\n", "utf-8")
        for name, other in (beside or {}).items():
            (staged / name).write_text(other, "utf-8")


def load_mixture(folder: Path) -> tuple[Mixture, dict[str, Any]]:
    """A mixture that was kept, and the account of how it came about.

    Raises:
        NotFound: there is no mixture at `folder`.
        BadCheckpoint: it is incomplete, damaged, or of another format.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise NotFound("no mixture here", where=path, hint="antcache teacher ensemble")
    try:
        text = read_json(path)
        if text["format"] != FORMAT:
            raise BadConfig("unknown format", expected=FORMAT, found=text["format"])
        file = folder / ARRAYS_FILE
        arrays = read_tensors(file).tensors if file.is_file() else {}
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in text["mixture"].items()
        }
        network = {
            k.removeprefix("network."): v for k, v in arrays.items() if k.startswith("network.")
        }
        mixture = Mixture(**settings, log_prior=arrays.get("log_prior"), network=network)
        return mixture, dict(text["about"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCheckpoint("the mixture can't be read", where=folder, found=error) from error
