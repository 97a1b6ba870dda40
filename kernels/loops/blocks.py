"""The distillation loss on the CPU: what brings tensors into the loops' form, block by block.

Promise: the same value, parts and gradient as the reference, in float32; beside the gradient, less
than a tenth of the logits is held (or a few hundred KiB, where that is more). Rows are spread over
numba's threads and each is computed in one fixed order, so the number of threads changes nothing.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature.

float32 logits and teachers with neighbouring classes side by side are read where they lie; all else
(half precision, other strides, the few entries of top-k teachers) is brought into that form in
blocks of rows. The loops themselves: `rows.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numba import config, get_num_threads, set_num_threads
from torch import Tensor

from antcache.kernels.loops.compiled import told
from antcache.kernels.loops.lines import Floats, Ints, Lines, as_numpy, flat
from antcache.kernels.loops.memory import room_for
from antcache.kernels.loops.per_row import Doubles, PerRow
from antcache.kernels.loops.rows import LoopInputs, compute_rows
from antcache.kernels.record import DENSE, LossInputs, LossOutputs, empty_outputs

SHARE_OF_LOGITS = 20
"""Blocks may take a 20th of what the logits take, ..."""
LEAST, MOST = 1 << 18, 1 << 22
"""... at least and at most so many bytes, ..."""
ROWS = 16
"""... but so many rows per thread are worth more than `MOST`."""

# One of numba's ways to run threads (workqueue) ends the process if two threads of Python enter it.
_ONE_AT_A_TIME = threading.Lock()


def run(
    inputs: LossInputs, grad: Tensor | None = None, factor: Tensor | None = None
) -> LossOutputs:
    """Loss, parts and gradient of `inputs`; the latter goes into `grad`, which may be the logits.

    In half precision the gradient is multiplied by the upstream `factor` () or (B,), if given,
    before it is rounded.
    """
    if grad is None and inputs.gradient:
        grad = room_for(inputs.logits)
    out = empty_outputs(inputs, grad)
    grad = out.grad
    if inputs.num_classes:
        inputs, grad = _without_padding(inputs, grad)
    rows = PerRow.of(inputs)
    step = _rows_at_once(inputs, grad)
    ce, kl = np.empty((2, len(inputs.logits)), np.float64)
    block = _Block(inputs, grad, rows, step, factor)
    with _ONE_AT_A_TIME, torch.no_grad(), _threads(), _told():
        for start in range(0, len(ce), step):
            block.compute(slice(start, min(start + step, len(ce))), ce, kl)
    out.ce.copy_(torch.from_numpy(ce))
    out.kl.copy_(torch.from_numpy(kl))
    out.has_target.copy_(torch.from_numpy(rows.teacher >= 0))
    pulled = inputs.label_weight * ce
    pushed = np.where(rows.teacher >= 0, rows.kl_weight * kl, 0)
    if inputs.reduction == "none":
        loss = torch.from_numpy(pulled + pushed)
    else:
        mean = pulled.sum() / rows.n_ce + pushed.sum() / rows.n_kl
        loss = torch.tensor(mean, dtype=torch.float64)
    out.loss.copy_(loss)
    out.counts.copy_(torch.tensor((rows.n_ce, rows.n_kl), dtype=torch.float64))
    return out


def _without_padding(inputs: LossInputs, grad: Tensor) -> tuple[LossInputs, Tensor]:
    """The columns that are classes; the others have no gradient, which stands there from now on."""
    classes = inputs.classes
    teacher = inputs.teacher
    if teacher is not None and inputs.form == DENSE:
        teacher = teacher[..., :classes]
    with torch.no_grad():
        grad[:, classes:] = 0
    return inputs._replace(logits=inputs.logits[:, :classes], teacher=teacher), grad[:, :classes]


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


def _told() -> AbstractContextManager[Any]:
    return told(compute_rows, "the distillation loss", seconds=20)


def _rows_at_once(inputs: LossInputs, grad: Tensor) -> int:
    """Batch rows of a block: all, if nothing has to be brought into another form."""
    num_classes = inputs.logits.shape[1]
    own = sum(4 * num_classes for tensor in (inputs.logits, grad) if flat(tensor) is None)
    if inputs.teacher is not None and (inputs.form != DENSE or flat(inputs.teacher) is None):
        entries = inputs.num_teachers * inputs.teacher.shape[2]
        # A teacher's rows before and after the change; top-k entries have classes as well.
        own += entries * (8 if inputs.form == DENSE else 28) + 4 * inputs.num_teachers
    if not own:
        return len(inputs.logits)
    size = inputs.logits.numel() * inputs.logits.element_size() // SHARE_OF_LOGITS
    most = max(MOST, ROWS * torch.get_num_threads() * own)
    return max(1, min(len(inputs.logits), int(max(LEAST, min(size, most)) // own)))


class _Block:
    """Calls the loops for one block of rows after the other, in buffers that are used again."""

    def __init__(
        self, inputs: LossInputs, grad: Tensor, rows: PerRow, step: int, factor: Tensor | None
    ) -> None:
        self.inputs, self.rows = inputs, rows
        self.factor = None if factor is None else factor.expand(len(grad))[:, None]
        self.logits, self.grad = Lines(inputs.logits.detach(), step), Lines(grad, step)
        self.dense = inputs.teacher if inputs.form == DENSE else None
        self.flat = None if self.dense is None else flat(self.dense)
        size: tuple[int, ...] = (0,)
        if self.dense is not None and self.flat is None:
            size = (len(self.dense), step, self.dense.shape[2])
        self.buffer = torch.empty(size, dtype=torch.float32)

    def compute(self, at: slice, ce: Doubles, kl: Doubles) -> None:
        """Rows `at` of `ce`, `kl` and the gradient."""
        inputs, rows = self.inputs, self.rows
        x, stride_x = self.logits.at(at, read=True)
        grad, stride_g = self.grad.at(at)
        t, (stride_m, stride_n), index, tail, teacher, num_rows = self._teacher(at)
        per_row, own = len(rows.share) > 1, len(rows.push) > 1
        share = rows.share[at] if per_row else rows.share
        given = LoopInputs(
            x=x,
            grad=grad,
            t=t,
            index=index,
            tail=tail,
            teacher=teacher,
            share=share.ravel(),
            labels=rows.labels[at],
            class_weight=rows.class_weight,
            log_weight=rows.log_weight,
            ce=ce[at],
            kl=kl[at],
            classes=inputs.logits.shape[1],
            stride_x=stride_x,
            stride_g=stride_g,
            stride_m=stride_m,
            stride_n=stride_n,
            stride_share=share.shape[1] if per_row else 0,
            num_rows=num_rows,
            num_teachers=inputs.num_teachers,
            form=inputs.form,
            ignore_index=inputs.ignore_index,
            gradient=inputs.gradient,
            threads=get_num_threads(),
            inv_t=rows.inv_t[at] if own else rows.inv_t,
            push=rows.push[at] if own else rows.push,
            stride_own=int(own),
            pull=inputs.label_weight / rows.n_ce,
            beta=float(inputs.beta),
            smoothing=inputs.label_smoothing,
            weight_sum=rows.weight_sum,
        )
        compute_rows(tuple(given))
        self.grad.write_back(at, self.factor)

    def _teacher(self, at: slice) -> tuple[Floats, tuple[int, int], Ints, Floats, Ints, int]:
        """Flat logits, their strides of M and N, classes, tails, rows, number of rows."""
        inputs, rows = self.inputs, self.rows.teacher[at]
        index, tail = np.empty((0, 0, 0), np.int64), np.empty((0, 0), np.float32)
        if inputs.teacher is None:
            return np.empty(0, np.float32), (0, 0), index, tail, rows, 0
        num_teachers, num_rows, k = inputs.teacher.shape
        if self.flat is not None:
            strides = (inputs.teacher.stride(0), inputs.teacher.stride(1))
            return self.flat.numpy(), strides, index, tail, rows, num_rows
        # From here on the block has a teacher row of its own for each batch row.
        pick = torch.from_numpy(rows.clip(0, num_rows - 1))
        inside = np.arange(len(rows))
        inside = np.where(rows < 0, -1, np.where(rows < num_rows, inside, len(rows)))
        if inputs.teacher_index is None:
            for m in range(num_teachers):
                self.buffer[m, : len(rows)] = inputs.teacher[m].detach().index_select(0, pick)
            strides = (self.buffer.stride(0), k)
            return self.buffer.numpy().ravel(), strides, index, tail, inside, len(rows)
        t = as_numpy(inputs.teacher[:, pick].transpose(0, 1), torch.float32)
        index = as_numpy(inputs.teacher_index[:, pick].transpose(0, 1), torch.int64)
        tail = np.zeros((len(rows), num_teachers), np.float32)
        if inputs.tail is not None:
            tail = as_numpy(inputs.tail[:, pick].T, torch.float32)
        return t.ravel(), (k, num_teachers * k), index, tail, inside, len(rows)
