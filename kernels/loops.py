"""The distillation loss on the CPU: numba loops that visit each row while it is in the cache.

Promise: the same value, parts and gradient as the reference, in float32; beside the gradient, less
than a tenth of the logits is held (or a few hundred KiB, where that is more). Rows are spread over
numba's threads and each is computed in one fixed order, so the number of threads changes nothing.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature.

float32 logits and teachers with neighbouring classes side by side are read where they lie; all else
(half precision, other strides, the few entries of top-k teachers) is brought into that form in
blocks of rows. The loops themselves: `loops_rows.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import MissingExtra
from antcache.kernels.call import DENSE, Call, Outputs, empty_outputs

try:
    from numba import config, get_num_threads, set_num_threads

    from antcache.kernels.loops_rows import all_rows
except ImportError as error:
    raise MissingExtra("numba", "teacher") from error

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SHARE_OF_LOGITS = 20
"""Blocks may take a 20th of what the logits take, ..."""
LEAST, MOST = 1 << 18, 1 << 22
"""... at least and at most so many bytes, ..."""
ROWS = 16
"""... but so many rows per thread are worth more than `MOST`."""

# One of numba's ways to run threads (workqueue) ends the process if two threads of Python enter it.
_ONE_AT_A_TIME = threading.Lock()


def run(call: Call, grad: Tensor | None = None, factor: Tensor | None = None) -> Outputs:
    """Loss, parts and gradient of `call`; the latter goes into `grad`, which may be the logits.

    In half precision the gradient is multiplied by the upstream `factor` () or (B,), if given,
    before it is rounded.
    """
    out = empty_outputs(call, grad)
    rows = _PerRow.of(call)
    step = _rows_at_once(call, out.grad)
    ce, kl = np.empty((2, len(call.logits)), np.float64)
    block = _Block(call, out.grad, rows, step, factor)
    with torch.no_grad(), _threads():
        for start in range(0, len(ce), step):
            block.compute(slice(start, min(start + step, len(ce))), ce, kl)
    out.ce.copy_(torch.from_numpy(ce))
    out.kl.copy_(torch.from_numpy(kl))
    out.has_target.copy_(torch.from_numpy(rows.teacher >= 0))
    if call.reduction == "none":
        loss = torch.from_numpy(call.label_weight * ce + call.kl_weight * kl)
    else:
        loss = torch.tensor(
            call.label_weight * ce.sum() / rows.n_ce + call.kl_weight * kl.sum() / rows.n_kl
        )
    out.loss.copy_(loss)
    out.counts.copy_(torch.tensor((rows.n_ce, rows.n_kl)))
    return out


@contextmanager
def _threads() -> Iterator[None]:
    """As many threads as PyTorch is told to use; both libraries find their numbers unchanged."""
    # In this order, and before anything else asks numba: the first question starts its threads.
    wanted, own = torch.get_num_threads(), get_num_threads()
    set_num_threads(min(wanted, config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        set_num_threads(own)
        if torch.get_num_threads() != wanted:  # they may share one OpenMP, whose number numba sets
            torch.set_num_threads(wanted)


@dataclass(frozen=True, kw_only=True)
class _PerRow:
    """What there is one of per batch row, and what the means divide by.

    Attributes:
        teacher: (B,) teacher row, -1 without a target, at most N (which is out of range).
        labels: (B,) or empty.
        class_weight: (C,) or empty.
        weight_sum: sum of the class weights.
        share: (B, M) or (1, M) weights of the teachers, of sum 1.
        n_ce: what the sum of the cross-entropy is divided by.
        n_kl: the same of the KL.
    """

    teacher: Ints
    labels: Ints
    class_weight: Floats
    weight_sum: float
    share: Doubles
    n_ce: float
    n_kl: float

    @staticmethod
    def of(call: Call) -> _PerRow:
        """Those of `call`."""
        num_classes = call.logits.shape[1]
        labels, per_class = np.empty(0, np.int64), np.empty(0, np.float32)
        if call.labels is not None:
            labels = _numpy(call.labels, torch.int64)
            if call.class_weight is not None:
                per_class = _numpy(call.class_weight, torch.float32)
            elif call.label_smoothing > 0:
                per_class = np.ones(num_classes, np.float32)
        teacher = _teacher_rows(call)
        n_ce = n_kl = 1.0
        if call.reduction == "mean":
            counted = labels[labels != call.ignore_index]
            n_ce = float(len(counted))
            if call.class_weight is not None:
                known = counted[(counted >= 0) & (counted < num_classes)]
                n_ce = float(per_class[known].sum(dtype=np.float64))
            n_kl = float(np.count_nonzero(teacher >= 0))
        share = np.full((1, call.num_teachers), 1 / call.num_teachers)
        if call.teacher_weight is not None:
            given = np.atleast_2d(_numpy(call.teacher_weight, torch.float64))
            with np.errstate(invalid="ignore", divide="ignore"):  # weights of sum 0: NaN
                share = given / given.sum(1, keepdims=True)
        return _PerRow(
            teacher=teacher,
            labels=labels,
            class_weight=per_class,
            weight_sum=float(per_class.sum(dtype=np.float64)),
            share=share,
            n_ce=n_ce if n_ce > 0 else 1.0,
            n_kl=max(n_kl, 1.0),
        )


def _teacher_rows(call: Call) -> Ints:
    batch = len(call.logits)
    if call.teacher is None:
        return np.full(batch, -1)
    num_rows = call.teacher.shape[1]
    if call.rows is None:
        rows = np.arange(batch)
    else:
        rows = _numpy(call.rows, torch.int64).clip(-1, num_rows)
    if call.valid is not None:
        valid = _numpy(call.valid, torch.bool)
        rows = np.where((rows < num_rows) & ~valid[np.minimum(rows, num_rows - 1)], -1, rows)
    return rows


def _rows_at_once(call: Call, grad: Tensor) -> int:
    """Batch rows of a block: all, if nothing has to be brought into another form."""
    num_classes = call.logits.shape[1]
    own = 0 if _flat(call.logits) is not None else 4 * num_classes
    own += 0 if not call.gradient or _flat(grad) is not None else 4 * num_classes
    if call.teacher is not None and (call.form != DENSE or _flat(call.teacher) is None):
        entries = call.num_teachers * call.teacher.shape[2]
        # A teacher's rows before and after the change; top-k entries have classes as well.
        own += entries * (8 if call.form == DENSE else 28) + 4 * call.num_teachers
    if not own:
        return len(call.logits)
    size = call.logits.numel() * call.logits.element_size() // SHARE_OF_LOGITS
    most = max(MOST, ROWS * torch.get_num_threads() * own)
    return max(1, min(len(call.logits), int(max(LEAST, min(size, most)) // own)))


class _Block:
    """Calls the loops for one block of rows after the other, in buffers that are used again."""

    def __init__(
        self, call: Call, grad: Tensor, rows: _PerRow, step: int, factor: Tensor | None
    ) -> None:
        self.call, self.rows = call, rows
        self.factor = None if factor is None else factor.expand(len(grad))[:, None]
        self.logits, self.grad = call.logits.detach(), grad
        self.x, self.to = _flat(self.logits), _flat(grad) if call.gradient else None
        num_classes = self.logits.shape[1]
        self.x_buffer = self.grad_buffer = self.t_buffer = None
        if self.x is None:
            self.x_buffer = torch.empty(step, num_classes, dtype=torch.float32)
        if call.gradient and self.to is None:
            self.grad_buffer = torch.empty(step, num_classes, dtype=torch.float32)
        self.t = None if call.form != DENSE or call.teacher is None else _flat(call.teacher)
        if call.form == DENSE and self.t is None:
            self.t_buffer = torch.empty(call.num_teachers, step, num_classes, dtype=torch.float32)

    def compute(self, at: slice, ce: Doubles, kl: Doubles) -> None:
        """Rows `at` of `ce`, `kl` and the gradient."""
        call, rows = self.call, self.rows
        x, stride_x = self._logits(at)
        to, stride_g = self._gradient(at)
        t, strides, index, tail, teacher, num_rows = self._teacher(at)
        per_row = len(rows.share) > 1
        share = rows.share[at] if per_row else rows.share
        ints = (
            call.logits.shape[1], stride_x, stride_g, *strides, num_rows, call.form,
            call.num_teachers, rows.share.shape[1] if per_row else 0, call.ignore_index,
            call.gradient, get_num_threads(),
        )  # fmt: skip
        reals = (
            1 / call.temperature, call.label_weight / rows.n_ce,
            call.kl_weight / call.temperature / rows.n_kl, call.label_smoothing, rows.weight_sum,
        )  # fmt: skip
        with _ONE_AT_A_TIME:
            all_rows(
                x, to, t, index, tail, teacher, share.ravel(), rows.labels[at], rows.class_weight,
                np.array(ints, np.int64), np.array(reals, np.float64), ce[at], kl[at],
            )  # fmt: skip
        if self.grad_buffer is not None:
            made = self.grad_buffer[: at.stop - at.start]
            self.grad[at] = made if self.factor is None else made.mul_(self.factor[at])

    def _logits(self, at: slice) -> tuple[Floats, int]:
        if self.x_buffer is None:
            return _from(self.x, self.logits, at)
        self.x_buffer[: at.stop - at.start] = self.logits[at]
        return self.x_buffer.numpy().ravel(), self.logits.shape[1]

    def _gradient(self, at: slice) -> tuple[Floats, int]:
        if not self.call.gradient:
            return np.empty(0, np.float32), 0
        if self.grad_buffer is None:
            return _from(self.to, self.grad, at)
        return self.grad_buffer.numpy().ravel(), self.logits.shape[1]

    def _teacher(self, at: slice) -> tuple[Floats, tuple[int, int], Ints, Floats, Ints, int]:
        """Flat logits, their strides of M and N, classes, tails, rows, number of rows."""
        call, rows = self.call, self.rows.teacher[at]
        index, tail = np.empty((0, 0, 0), np.int64), np.empty((0, 0), np.float32)
        if call.teacher is None:
            return np.empty(0, np.float32), (0, 0), index, tail, rows, 0
        num_rows = call.teacher.shape[1]
        if self.t is not None:
            strides = (call.teacher.stride(0), call.teacher.stride(1))
            return self.t.numpy(), strides, index, tail, rows, num_rows
        # From here on the block has a teacher row of its own for each batch row.
        pick = torch.from_numpy(rows.clip(0, num_rows - 1))
        inside = np.arange(len(rows))
        inside = np.where(rows < 0, -1, np.where(rows < num_rows, inside, len(rows)))
        num_teachers, _, k = call.teacher.shape
        if self.t_buffer is not None:
            for m in range(num_teachers):
                self.t_buffer[m, : len(rows)] = call.teacher[m].detach().index_select(0, pick)
            strides = (self.t_buffer.stride(0), k)
            return self.t_buffer.numpy().ravel(), strides, index, tail, inside, len(rows)
        assert call.index is not None
        t = _numpy(call.teacher[:, pick].transpose(0, 1), torch.float32)
        index = _numpy(call.index[:, pick].transpose(0, 1), torch.int64)
        tail = np.zeros((len(rows), num_teachers), np.float32)
        if call.tail is not None:
            tail = _numpy(call.tail[:, pick].T, torch.float32)
        return t.ravel(), (k, num_teachers * k), index, tail, inside, len(rows)


def _flat(tensor: Tensor) -> Tensor | None:
    """A float32 tensor's memory from its first number on, None if its last axis is spread."""
    if tensor.dtype != torch.float32 or (tensor.stride(-1) != 1 and tensor.shape[-1] > 1):
        return None
    span = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.detach().as_strided((span + 1,), (1,)) if tensor.numel() else tensor.new_empty(0)


def _from(flat: Tensor | None, tensor: Tensor, at: slice) -> tuple[Floats, int]:
    assert flat is not None
    numbers: Floats = flat.numpy()
    return numbers[at.start * tensor.stride(0) :], tensor.stride(0)


def _numpy(tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    numbers: NDArray[Any] = tensor.detach().to(dtype).contiguous().numpy()
    return numbers
