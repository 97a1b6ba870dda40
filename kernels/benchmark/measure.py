"""Rows of one case: each contender in each mode, or the reason why there is no number.

Promise: no contender ends the run, whatever it raises. On a CPU the contenders take turns, run by
run, since its cores have other things to do as well; on a GPU, which has not, one follows the
other, and leaves its memory to the next. Letters as in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from antcache.errors import AntcacheError
from antcache.kernels.benchmark.clock import Clock, Step, Timed, percentile
from antcache.kernels.benchmark.contenders import Inputs, Skip, contender, make_inputs
from antcache.kernels.benchmark.hidden import Hidden, hidden_contender, make_hidden
from antcache.kernels.benchmark.rows import (
    BOTH,
    FORWARD,
    HOST,
    LINEAR,
    OVER,
    SMALL_BATCH,
    Case,
    Row,
)
from antcache.kernels.loss import Impl

AnyLoss = Callable[[Any], Tensor]
"""A loss of `Inputs`, or of `Hidden`."""


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A contender in one mode: what is to be timed, or a row that says why it can't be.

    Attributes:
        row: without a number.
        timed: None if there is none.
        peak: bytes beside the inputs.
        moved: bytes that must move, None where they are not the limit.
    """

    row: Row
    timed: Timed | None = None
    peak: int | None = None
    moved: int | None = None


def measure(
    case: Case,
    names: Sequence[str],
    clock: Clock,
    *,
    fast: Impl,
    stamp: dict[str, Any],
    copy_bandwidth: float,
) -> list[Row]:
    """Rows of these contenders in one case, in all modes; `fast` computes ours."""
    blank = Row(
        **stamp,
        contender="",
        mode=BOTH,
        dtype=case.dtype,
        form=case.form,
        B=case.batch,
        C=case.classes,
        W=case.width,
    )
    try:
        inputs = _rotation(case, clock)
    except torch.OutOfMemoryError:
        note = "no memory for the inputs"
        return [replace(blank, contender=name, note=note) for name in names]
    found: list[Row] = []
    for together in [list(names)] if clock.device == "cpu" else [[name] for name in names]:
        tried: list[_Tried] = []
        for name in together:
            tried += _try(replace(blank, contender=name), inputs, clock, fast)
        found += _time(tried, clock, copy_bandwidth)
        tried.clear()
        if clock.device == "cuda":
            torch.cuda.empty_cache()
    return found


def _try(
    row: Row, inputs: Sequence[Inputs] | Sequence[Hidden], clock: Clock, fast: Impl
) -> list[_Tried]:
    """The contender of this row in all modes, each run once."""
    modes = [BOTH] if row.contender == OVER else [BOTH, FORWARD]
    if clock.device == "cuda" and row.B == SMALL_BATCH:
        modes.append(HOST)
    found = []
    mode = BOTH
    try:
        loss: AnyLoss
        if row.form == LINEAR:
            loss = hidden_contender(row.contender, fast)
        else:
            loss = contender(row.contender, fast)
        before: dict[str, Step] = {}
        if row.contender == OVER:
            inputs = [item.with_own_logits() for item in inputs if isinstance(item, Inputs)]
            before = {"before": _refill(inputs, clock)}
        for mode in modes:
            step = forward_step(loss, inputs) if mode == FORWARD else both_step(loss, inputs)
            found.append(
                _Tried(
                    row=replace(row, mode=mode),
                    peak=clock.peak_bytes(step),
                    timed=Timed(step=step, host=mode == HOST, **before),
                    moved=_moved(inputs[0], mode),
                )
            )
    except Exception as error:  # whatever another package raises must not end the run
        found.append(_Tried(row=replace(row, mode=mode, note=_reason(error))))
    return found


def _moved(item: Inputs | Hidden, mode: str) -> int | None:
    return item.num_bytes(gradient=mode != FORWARD) if isinstance(item, Inputs) else None


def _time(tried: Sequence[_Tried], clock: Clock, copy_bandwidth: float) -> list[Row]:
    """Time them together."""
    ready = [one.timed for one in tried if one.timed]
    try:
        times = iter(clock.times(*ready) if ready else [])
    except Exception as error:  # as above
        return [replace(one.row, note=one.row.note or _reason(error)) for one in tried]
    return [_measured(one, next(times), copy_bandwidth) if one.timed else one.row for one in tried]


def _measured(one: _Tried, times: list[float], copy_bandwidth: float) -> Row:
    median = percentile(times, 50)
    rate = None if one.moved is None else one.moved / (1e-3 * median)
    return replace(
        one.row,
        ms_p20=percentile(times, 20),
        ms_p50=median,
        ms_p80=percentile(times, 80),
        gb_s=None if rate is None else rate / 1e9,
        copy_share=None if rate is None else rate / copy_bandwidth,
        peak_mb=None if one.peak is None else one.peak / 1e6,
    )


def _reason(error: Exception) -> str:
    """Why there is no number, in one line; what is nobody's word starts with `error`."""
    if isinstance(error, (Skip, AntcacheError)):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "no memory"
    if isinstance(error, NotImplementedError):
        return "not implemented here"
    text = " ".join(str(error).split())[:120]
    return f"error: {type(error).__name__}: {text}"


def both_step(loss: AnyLoss, inputs: Sequence[Inputs] | Sequence[Hidden]) -> Step:
    """Loss and gradient.

    `torch.autograd.grad`, not `backward`: the logits of a model are no leaf, and a leaf's `.grad`
    may cost a copy that no training has.
    """

    def step(number: int) -> object:
        item = inputs[number % len(inputs)]
        return torch.autograd.grad(loss(item), item.leaves)

    return step


def forward_step(loss: AnyLoss, inputs: Sequence[Inputs] | Sequence[Hidden]) -> Step:
    """The loss alone."""

    def step(number: int) -> object:
        with torch.no_grad():
            return loss(inputs[number % len(inputs)])

    return step


def _rotation(case: Case, clock: Clock) -> list[Inputs] | list[Hidden]:
    """As many sets of inputs as it takes to exceed the cache twice."""
    generator = torch.Generator(clock.device).manual_seed(0)
    if case.form == LINEAR:  # the classifier and its logits alone are larger than any cache
        return [make_hidden(case, clock.device, generator)]
    first = make_inputs(case, clock.device, generator)
    copies = 2 * clock.cache_bytes() // first.num_bytes(gradient=False)
    if clock.device == "cpu":
        copies = min(copies, 15)  # rows are read once: only small shapes profit from the cache
    return [first, *(make_inputs(case, clock.device, generator) for _ in range(copies))]


def _refill(inputs: Sequence[Inputs], clock: Clock) -> Step:
    """New logits for those that were overwritten, and the cache emptied of them."""
    scratch = torch.empty(2 * clock.cache_bytes(), dtype=torch.int8, device=clock.device)

    def before(number: int) -> None:
        if number % len(inputs) == 0:
            for item in inputs:
                item.logits.detach().normal_(std=2)
            scratch.zero_()

    return before
