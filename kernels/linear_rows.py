"""The classifier and the loss in chunks of rows, whose logits are the only ones there are.

Promise: a chunk's logits lie in a buffer that the next one uses again, and its gradient over them;
sums over chunks are in one fixed order, in float32 at least. Nothing waits for the device.
Letters: B batch rows, D features of a row, W width of the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from antcache.kernels.record import LossInputs, LossOutputs

PER_ROW = ("labels", "rows", "row_temperature", "row_weight")
"""Fields of `LossInputs` that are (B,), if they aren't one number for all rows."""

ROWS = {"cpu": (64, 192), "cuda": (512, 1024)}
"""Rows of a chunk that keep the matrix products of a device fast: of few rows in all, of many."""

BLOCK = 8192
"""Classes whose numbers in half precision are widened at once."""

ROOM = 2.0**8
"""What the largest gradient of float16 logits is brought to, so that small ones don't underflow."""

Compute = Callable[[LossInputs, Tensor | None], LossOutputs]
"""Loss and gradient of a chunk, the latter over the tensor that is given."""


class Layer(NamedTuple):
    """The classifier and what it is given.

    Attributes:
        hidden: (B, D).
        classifier: (W, D).
        bias: (W,) or None.
        dtype: of the logits and of all products.
    """

    hidden: Tensor
    classifier: Tensor
    bias: Tensor | None
    dtype: torch.dtype

    @property
    def wide(self) -> torch.dtype:
        """In which gradients are summed."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def to(self, dtype: torch.dtype) -> Layer:
        """The same, with classifier and bias in this dtype."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return self._replace(classifier=self.classifier.to(dtype), bias=bias)

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """Those of some rows (n, D), written into `out` (n, W); as `F.linear` computes them."""
        weight = self.classifier.t()
        if self.bias is None:
            return torch.mm(hidden, weight, out=out)
        return torch.addmm(self.bias, hidden, weight, out=out)


class Gradients(NamedTuple):
    """For the three tensors of a `Layer`, in its wide dtype; empty where not wanted."""

    hidden: Tensor
    classifier: Tensor
    bias: Tensor

    @staticmethod
    def empty(layer: Layer, wanted: tuple[bool, bool, bool]) -> Gradients:
        """To be filled."""
        tensors = (layer.hidden, layer.classifier, layer.bias)
        return Gradients(
            *(
                torch.empty(
                    tensor.shape if want and tensor is not None else (0,),
                    dtype=layer.wide,
                    device=layer.hidden.device,
                )
                for tensor, want in zip(tensors, wanted, strict=True)
            )
        )

    def add(self, layer: Layer, at: slice, hidden: Tensor, grad: Tensor) -> None:
        """What the gradient (n, W) of the logits of rows `at` adds; the first rows begin anew."""
        first, width = at.start == 0, grad.shape[1]
        block = width if layer.dtype == layer.wide else BLOCK
        for start in range(0, width, block):
            some = slice(start, start + block)
            if self.hidden.numel():
                _add(self.hidden[at], grad[:, some], layer.classifier[some], anew=start == 0)
            if self.classifier.numel():
                _add(self.classifier[some], grad[:, some].t(), hidden, anew=first)
        if self.bias.numel():
            added = grad.sum(0, dtype=layer.wide)
            self.bias.copy_(added) if first else self.bias.add_(added)


def _add(total: Tensor, a: Tensor, b: Tensor, *, anew: bool) -> None:
    """Add a @ b to the total, or begin it; summed in its dtype, whatever that of the factors."""
    if total.is_cuda and a.dtype == b.dtype != total.dtype and hasattr(torch.ops.aten.mm, "dtype"):
        product = torch.mm(a, b, out_dtype=total.dtype)
        total.copy_(product) if anew else total.add_(product)
    else:
        total.addmm_(a.to(total.dtype), b.to(total.dtype), beta=0 if anew else 1)


def rows_at_once(layer: Layer, most: int) -> int:
    """Rows of a chunk, all of about the same number: at most so many, or a good number for 0."""
    (batch, features), width = layer.hidden.shape, layer.classifier.shape[0]
    if not most:
        as_hidden = -(-batch * features // width)  # rows whose logits are as large as `hidden`
        few, many = ROWS.get(layer.hidden.device.type, ROWS["cuda"])
        most = max(few, min(many, batch // 4), 1 << max(0, as_hidden - 1).bit_length())
    count = max(1, -(-batch // most))
    return max(1, -(-batch // count))


def chunks(batch: int, step: int) -> Iterator[slice]:
    """Slices of `step` rows or fewer; one of none for an empty batch."""
    for start in range(0, max(batch, 1), step):
        yield slice(start, min(start + step, batch))


def rows_of(inputs: LossInputs, logits: Tensor, at: slice) -> LossInputs:
    """`inputs` for rows `at`, whose logits these are."""
    fields = {name: getattr(inputs, name) for name in PER_ROW}
    changed = {name: v[at] for name, v in fields.items() if v is not None and v.ndim == 1}
    if inputs.teacher_weight is not None and inputs.teacher_weight.ndim == 2:
        changed["teacher_weight"] = inputs.teacher_weight[at]
    if inputs.rows is None and inputs.teacher is not None:  # row i is teacher row i
        for name in ("teacher", "teacher_index", "tail"):
            if (value := getattr(inputs, name)) is not None:
                changed[name] = value[:, at]
        if inputs.valid is not None:
            changed["valid"] = inputs.valid[at]
    return inputs._replace(logits=logits, **changed)


def row_counts(inputs: LossInputs) -> Tensor:
    """What the sums (2,) of cross-entropy and KL are divided by: for the mean, of all rows."""
    device = inputs.logits.device
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    counts = torch.ones(2, dtype=dtype, device=device)
    if inputs.reduction != "mean":
        return counts
    if inputs.normaliser is not None:
        counts = inputs.normaliser.to(dtype)
        return counts.where(counts != 0, 1)
    if inputs.labels is not None:
        labels = inputs.labels.long()
        counted = labels != inputs.ignore_index
        if inputs.class_weight is None:
            counts[0] = counted.sum()
        else:
            known = counted & (labels >= 0) & (labels < inputs.classes)
            counts[0] = (inputs.class_weight.to(dtype)[labels.where(known, 0)] * known).sum()
    if inputs.teacher is not None:
        rows = inputs.rows
        rows = torch.arange(inputs.logits.shape[0], device=device) if rows is None else rows.long()
        has_target = rows >= 0
        if inputs.valid is not None and inputs.num_rows:
            last = inputs.num_rows - 1
            has_target = has_target & (inputs.valid[rows.clamp(0, last)] | (rows > last))
        counts[1] = has_target.sum()
    return counts.where(counts != 0, 1)


def run(
    layer: Layer,
    inputs: LossInputs,
    compute: Compute,
    chunk_rows: int,
    wanted: tuple[bool, bool, bool],
    factor: Tensor | None = None,
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Gradients]:
    """Loss, parts of each row, and the gradients of the loss or of the sum of the rows' losses.

    Args:
        layer: classifier and hidden rows.
        inputs: of the loss, with logits that have a shape, a dtype and a device but no memory.
        compute: of a chunk.
        chunk_rows: of a chunk at most, 0 for a good number.
        wanted: which gradients; none of them for the reduction `none`.
        factor: (B,), what the gradient of each row's logits is multiplied by.
    """
    layer = layer.to(layer.dtype)
    (batch, width), device = inputs.logits.shape, layer.hidden.device
    left: list[Tensor] = []  # what the gradients are still to be multiplied by
    if inputs.reduction != "none":
        counts = row_counts(inputs)
        if layer.dtype == torch.float16:
            left.append(_smallness(inputs, counts))
            counts = counts * left[0]
        inputs = inputs._replace(reduction="mean", normaliser=counts)
    if factor is not None:
        largest = factor.abs().amax()
        left.append(largest)
        factor = (factor / largest.where(largest > 0, 1))[:, None]
    inputs = inputs._replace(gradient=any(wanted))
    gradients = Gradients.empty(layer, wanted)
    step = rows_at_once(layer, chunk_rows)
    buffer = torch.empty(min(step, batch), width, dtype=layer.dtype, device=device)
    found = []
    for at in chunks(batch, step):
        hidden = layer.hidden[at].to(layer.dtype)
        logits = layer.logits(hidden, buffer[: at.stop - at.start])
        out = compute(rows_of(inputs, logits, at), logits if inputs.gradient else None)
        found.append(out[:4])
        if factor is not None:
            logits.mul_(factor[at])
        if inputs.gradient:
            gradients.add(layer, at, hidden, logits)
    losses, *parts = zip(*found, strict=True)
    loss = torch.cat(losses) if inputs.reduction == "none" else torch.stack(losses).sum()
    if left:
        for one in (loss, *gradients):
            one.mul_(torch.stack(left).prod())
    ce, kl, has_target = (torch.cat(part) for part in parts)
    return (loss, ce, kl, has_target), gradients


def _smallness(inputs: LossInputs, counts: Tensor) -> Tensor:
    """A power of two: over it, no gradient of float16 logits is much larger than `ROOM`.

    Nor would many be lost below the smallest number, as those of a mean over many rows are.
    """
    pull = inputs.label_weight / counts[0]
    if inputs.class_weight is not None:
        pull = pull * inputs.class_weight.amax()
    push = inputs.weight * inputs.temperature / counts[1]
    for given in (inputs.row_temperature, inputs.row_weight):
        if given is not None:
            push = push * given.amax()
    return ((pull + push).clamp(min=1e-30) / ROOM).log2().ceil().exp2()
