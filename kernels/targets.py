"""Teacher forms for the distillation loss: dense logits, or the k best classes of each row.

Promise: shapes, dtypes and devices are checked on construction, values only by `check`, on request
(that makes the host wait for the device). Letters: M teachers, N teacher rows, C classes, K top-k.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from antcache.errors import BadConfig

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class DenseTargets:
    """Logits of M teachers over all classes.

    Attributes:
        logits: (M, N, C) floating. `-inf` gives a class probability zero; in a valid row every
            teacher needs at least one finite logit and no NaN.
        valid: (N,) bool, false where a row holds no target; None means that all do.

    Raises:
        BadConfig: a shape or dtype is wrong.
    """

    logits: Tensor
    _: KW_ONLY
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        _check_logits("logits", self.logits)
        _check_valid(self.valid, self.logits)

    def check(self) -> None:
        """Look at the values, which the loss never does: it waits for the device.

        Raises:
            BadConfig: a valid row holds NaN or infinity, or no finite logit.
        """
        _check_finite("logits", _of_valid(self.logits, self.valid))

    @property
    def num_rows(self) -> int:
        """N."""
        return self.logits.shape[1]

    @property
    def num_teachers(self) -> int:
        """M."""
        return len(self.logits)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> DenseTargets:
        """The same targets on another device; `non_blocking` as for tensors."""
        return DenseTargets(**_moved(self, device, non_blocking))


@dataclass(frozen=True, eq=False)
class TopKTargets:
    """Logits of M teachers for K classes per row, with or without what lies outside them.

    Without `tail` both distributions are renormalised inside the K classes (the paper's form).
    With it the other C - K classes form one more outcome. One number can't say how a temperature
    changes their mass, so it is taken to be spread evenly over them (maximum entropy): at T each
    has the weight `(exp(tail) / (C - K)) ** (1 / T)`. At T = 1 this is `exp(tail)` exactly, and for
    T to infinity it tends to the true share (C - K) / C, as the student's own tail does; tempering
    the mass as if it were one class would tend to 1 / (K + 1), and T^2 KL would grow without end.
    (It does so for several teachers without tails whose K classes differ: each denies the classes
    that only the others name, at any temperature. Give tails, or one set of classes, where T is
    large.)

    Attributes:
        index: (M, N, K) integer class ids in [0, C), distinct within a row: what a class that is
            named twice does to the loss is not defined (`check` finds it).
        logit: (M, N, K) floating, of those classes; a constant added to a row changes nothing.
            `-inf` gives a class probability zero, and it stays one of the K.
        tail: (M, N) floating, natural logarithm of the probability that the teacher gives to all
            other classes together at T = 1 (`-inf` for none); without effect if K = C.
        valid: (N,) bool, false where a row holds no target; None means that all do.

    Raises:
        BadConfig: a shape or dtype is wrong.
    """

    index: Tensor
    logit: Tensor
    _: KW_ONLY
    tail: Tensor | None = None
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        _check_logits("logit", self.logit)
        check_tensor("index", self.index)
        if self.index.shape != self.logit.shape:
            raise BadConfig(
                "top-k index and logit need one shape",
                expected=tuple(self.logit.shape),
                found=tuple(self.index.shape),
            )
        if self.index.dtype not in INTEGERS:
            raise BadConfig("index must be integers", found=self.index.dtype)
        _check_device("index", self.index, self.logit)
        if self.tail is not None:
            _check_floating("tail", self.tail)
            if self.tail.shape != self.logit.shape[:-1]:
                raise BadConfig(
                    "tail needs one number per teacher and row",
                    expected=tuple(self.logit.shape[:-1]),
                    found=tuple(self.tail.shape),
                )
            _check_device("tail", self.tail, self.logit)
        _check_valid(self.valid, self.logit)

    def check(self, num_classes: int) -> None:
        """Look at the values, which the loss never does: it waits for the device.

        Raises:
            BadConfig: a valid row holds NaN, or names a class twice or one that there is not.
        """
        index = _of_valid(self.index, self.valid)
        if index.numel() and (index.min() < 0 or index.max() >= num_classes):
            found = f"{int(index.min())} to {int(index.max())}"
            raise BadConfig(
                "no such class", where="index", expected=f"0 to {num_classes - 1}", found=found
            )
        ordered = index.sort(dim=-1).values
        _check_none("a class is named twice", "index", ordered[..., 1:] == ordered[..., :-1])
        _check_finite("logit", _of_valid(self.logit, self.valid))
        if self.tail is not None:
            tail = _of_valid(self.tail, self.valid)
            _check_none("tail above 0, or NaN", "tail", ~(tail <= 0))

    @property
    def num_rows(self) -> int:
        """N."""
        return self.logit.shape[1]

    @property
    def num_teachers(self) -> int:
        """M."""
        return len(self.logit)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TopKTargets:
        """The same targets on another device; `non_blocking` as for tensors."""
        return TopKTargets(**_moved(self, device, non_blocking))


Targets: TypeAlias = DenseTargets | TopKTargets


def _moved(targets: Targets, device: torch.device | str, non_blocking: bool) -> dict[str, Tensor]:
    """The tensors that there are, on another device."""
    there = {name: value for name, value in vars(targets).items() if value is not None}
    return {name: value.to(device, non_blocking=non_blocking) for name, value in there.items()}


def _of_valid(value: Tensor, valid: Tensor | None) -> Tensor:
    """The valid rows of (M, N, ...)."""
    return value if valid is None else value[:, valid]


def _check_finite(name: str, logits: Tensor) -> None:
    """Refuse rows of logits (M, N, K) with NaN or infinity, or with -inf alone."""
    lowest = logits == -math.inf
    _check_none("NaN or infinity", name, (~logits.isfinite() & ~lowest).any(-1))
    _check_none("no finite logit", name, lowest.all(-1))


def _check_none(problem: str, name: str, wrong: Tensor) -> None:
    """Refuse any row of (M, N, ...) that is wrong; rows count among the valid ones."""
    found = wrong.nonzero()
    if len(found):
        teacher, row = found[0, :2].tolist()
        raise BadConfig(problem, where=name, found=f"valid row {row} of teacher {teacher}")


def check_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor, or none that has its numbers at strides."""
    if not isinstance(value, Tensor):
        raise BadConfig(
            f"{name} must be a tensor",
            found=type(value).__name__,
            hint="torch.as_tensor makes one of a list or NumPy array",
        )
    if hasattr(value, "to_local"):
        raise BadConfig(
            f"{name} must be a tensor of this process",
            found=type(value).__name__,
            hint="to_local() is; for classes that are spread over processes there is "
            "distillation_loss_sharded",
        )
    if value.layout != torch.strided or value.is_nested:
        raise BadConfig(
            f"{name} must be a dense tensor",
            found="a nested one" if value.is_nested else value.layout,
            hint="to_dense, or to_padded_tensor, makes one",
        )


def _check_floating(name: str, value: Tensor) -> None:
    check_tensor(name, value)
    if not value.dtype.is_floating_point:
        raise BadConfig(f"{name} must be floating", found=value.dtype)


def _check_logits(name: str, value: Tensor) -> None:
    _check_floating(name, value)
    if value.ndim != 3 or not value.shape[0] or not value.shape[2]:
        raise BadConfig(
            f"teacher {name} of a wrong shape",
            expected="(teachers, rows, classes), at least one teacher and one class",
            found=tuple(value.shape),
            hint="one teacher's: value[None]",
        )


def _check_valid(valid: Tensor | None, logits: Tensor) -> None:
    if valid is None:
        return
    check_tensor("valid", valid)
    num_rows = logits.shape[1]
    if valid.dtype != torch.bool or valid.shape != (num_rows,):
        raise BadConfig(
            "valid must be one bool per teacher row",
            expected=f"bool ({num_rows},)",
            found=f"{valid.dtype} {tuple(valid.shape)}",
        )
    _check_device("valid", valid, logits)


def _check_device(name: str, value: Tensor, logits: Tensor) -> None:
    if value.device != logits.device:
        raise BadConfig(
            f"{name} on another device than the teacher's logits",
            expected=logits.device,
            found=value.device,
            hint="targets.to(device) moves all of them, once",
        )
