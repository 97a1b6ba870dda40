"""Launches the Triton kernels: block sizes, buffers, one or two launches a call.

Promise: no wait for the device, and nothing allocated of the size of the logits but the gradient. A
launch that is interrupted leaves nothing that a later one would count on. Letters as in `scale.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from antcache.kernels.gpu import dense, few, sums
from antcache.kernels.gpu import scale as scaling
from antcache.kernels.gpu.long import launch as long_launch
from antcache.kernels.record import MIXED, NONE, TAIL, LossInputs, LossOutputs, empty_outputs

PER_THREAD = 20
"""Logits of a row that a thread of the dense kernel holds; more of them spill registers."""

PER_THREAD_RICH = 10
"""The same with several teachers, smoothing or a mixture, which need more registers for each."""

FEW_PER_THREAD = 32
"""Logits of a row that a thread of the top-k kernel holds: what it does with entries, all its warps
do, so fewer threads do less."""

FEW_PER_THREAD_RICH = 20
"""The same with smoothing or a mixture."""

FEW_PER_THREAD_SEVERAL = 16
"""The same of several teachers."""

LONGEST_RICH = 8192
"""Classes of the longest such row: in the largest programs a thread can hold fewer of them."""

ENTRIES_PER_THREAD = 4
"""Entries of a row, M * K in powers of two, that a thread of it holds."""

THREADS = 512
"""Most threads for a row of the dense kernel: with more, there are not 128 registers for each."""

COUNT_HERE = 512
"""Batch up to which every program counts the rows of the means itself, which saves a launch."""

SUMMED = 1024
"""Rows that one program adds up at the end, or counts beforehand."""


def launch(inputs: LossInputs, grad: Tensor | None = None) -> LossOutputs:
    """Loss, parts and gradient; the latter goes into `grad`, which may be the logits."""
    out = empty_outputs(inputs, grad)
    count = _count_by(inputs)
    with _on(inputs.logits.device), _tallies(inputs.logits) as tallies:
        if count == sums.COUNTED_BEFORE:
            _count(inputs, out.counts, tallies)
        _run(inputs, out, out.loss, tallies, count, again=False)
    return out


def launch_again(inputs: LossInputs, grad: Tensor, counts: Tensor, factor: Tensor) -> None:
    """The gradient of `inputs` times the factor () or (B,) into `grad`, rounded once.

    Where all factors are 1, `grad` stays as `launch` left it. `counts` are those of its outputs.
    """
    out = empty_outputs(inputs, grad)._replace(counts=counts)
    count = sums.COUNTED_BEFORE if inputs.reduction == "mean" else sums.UNDIVIDED
    with _on(grad.device), _tallies(inputs.logits) as tallies:
        _run(inputs, out, factor, tallies, count, again=True)


def _run(
    inputs: LossInputs,
    out: LossOutputs,
    factor: Tensor,
    tallies: Tallies,
    count: triton.language.constexpr,
    *,
    again: bool,
) -> None:
    """One launch of the kernel that fits the rows."""
    batch = inputs.logits.shape[0]
    number = inputs.temperature if inputs.row_temperature is None else 0
    shared: dict[str, Any] = {
        "FORM": inputs.form,
        "M": inputs.num_teachers,
        "SMOOTH": inputs.label_smoothing > 0,
        "BETA": inputs.divergence,
        "POWER": int(number) if number in (1, 2) else 0,
        "SOME": inputs.rows is not None or inputs.valid is not None,
        "PADDED": inputs.num_classes > 0,
        "COUNT": count.value,
        "PER_ROW": inputs.reduction == "none",
        "GRAD": inputs.gradient,
        "AGAIN": again,
        "SUMMED": SUMMED,
        "BLOCK_B": triton.next_power_of_2(min(batch, COUNT_HERE)),
        "WIDE": _wide(inputs.logits, inputs.teacher, out.grad),
    }
    if inputs.teacher_index is None and _row_threads(inputs) > THREADS:
        arguments = _arguments(inputs, out, factor, tallies)
        settings = shared | _options(long_launch.WARPS, 128)
        aligned = _aligned(inputs.logits, inputs.teacher, out.grad)
        long_launch.run(inputs, arguments, settings, aligned=aligned)
        return
    if inputs.teacher_index is None:
        run, sizes = dense.dense_kernel, _dense_sizes(inputs, out)
    else:
        out = _markable(inputs, out)
        run, sizes = few.few_kernel, _few_sizes(inputs, out)
    grid = (triton.cdiv(batch, sizes["ROWS"]),)
    run[grid](*_arguments(inputs, out, factor, tallies), **shared, **sizes)


def _dense_sizes(inputs: LossInputs, out: LossOutputs) -> dict[str, Any]:
    """Settings and block sizes of the dense kernel."""
    return {
        "EXACT": inputs.gradient and inputs.logits.dtype == torch.float32,
        **_sizes(inputs, _row_threads(inputs), inputs.logits, inputs.teacher, out.grad),
    }


def _few_sizes(inputs: LossInputs, out: LossOutputs) -> dict[str, Any]:
    """Settings and block sizes of the top-k kernel."""
    threads = _few_threads(inputs)
    long = threads > THREADS or (_is_rich(inputs) and inputs.classes > LONGEST_RICH)
    if not long:
        sizes = _sizes(inputs, threads, inputs.logits, out.grad) | {"NEIGHBOURS": 1}
    else:
        rows = (inputs.logits, out.grad)
        sizes = long_launch.few_sizes(wide=_wide(*rows), aligned=_aligned(*rows))
        sizes |= _options(long_launch.WARPS, 128)
    return {
        "K": inputs.top_k,
        "LONG": long,
        "BLOCK_M": triton.next_power_of_2(inputs.num_teachers),
        "BLOCK_K": triton.next_power_of_2(inputs.top_k),
        **sizes,
    }


def _sizes(inputs: LossInputs, threads: int, *rows: Tensor | None) -> dict[str, Any]:
    """Block sizes of rows of so many threads, which lie in registers.

    Short rows share a program of 4 warps. Chunks are as wide as leaves the fewest logits unused,
    with up to 4 neighbours per thread where these can be read at once.
    """
    widths = (4, 2, 1) if _aligned(*rows) else (1,)
    lanes = min((threads * w for w in widths), key=lambda n: triton.cdiv(inputs.classes, n) * n)
    warps = max(4, threads // 32)
    return {
        "ROWS": warps * 32 // threads,
        "CHUNKS": triton.cdiv(inputs.classes, lanes),
        "LANES": lanes,
        **_options(warps, 128),
    }


def _row_threads(inputs: LossInputs) -> int:
    """Threads of a row of the dense kernel: the fewest, in a power of 2, that can hold it."""
    rich = inputs.num_teachers > 1 or _is_rich(inputs)
    least = triton.cdiv(inputs.classes, PER_THREAD_RICH if rich else PER_THREAD)
    return int(max(4, triton.next_power_of_2(least)))


def _is_rich(inputs: LossInputs) -> bool:
    """Whether a logit needs more registers than usual."""
    return inputs.label_smoothing > 0 or inputs.divergence == MIXED


def _few_threads(inputs: LossInputs) -> int:
    """Threads of a row of the top-k kernel: the fewest that can hold it, and its entries."""
    rich = _is_rich(inputs)
    entries = triton.next_power_of_2(inputs.num_teachers) * triton.next_power_of_2(inputs.top_k)
    held = FEW_PER_THREAD
    if rich:
        held = FEW_PER_THREAD_SEVERAL if inputs.num_teachers > 1 else FEW_PER_THREAD_RICH
    least = triton.cdiv(inputs.classes, held)
    if rich:  # of short rows, which share a program, half as many entries
        least = max(least, min(2 * entries // ENTRIES_PER_THREAD, 128))
    threads = int(max(4, triton.next_power_of_2(least), entries // ENTRIES_PER_THREAD))
    # With a tail, a thread that has as many entries as it can holds half as many logits.
    full = entries == ENTRIES_PER_THREAD * threads and inputs.classes > held // 2 * threads
    return 2 * threads if rich and full and inputs.form == TAIL else threads


def _markable(inputs: LossInputs, out: LossOutputs) -> LossOutputs:
    """The outputs with rows for the top-k kernel's marks, which else stand in the gradient's."""
    if inputs.gradient or (inputs.num_teachers == 1 and inputs.form != TAIL):
        return out
    return out._replace(grad=torch.empty_like(inputs.logits))


def _aligned(*tensors: Tensor | None) -> bool:
    """Whether the compiler will know that every row begins at a multiple of 16 elements."""
    return all(
        t.stride(-1) == 1 and all(n % 16 == 0 for n in t.stride()[:-1]) and t.data_ptr() % 16 == 0
        for t in tensors
        if t is not None and t.numel()
    )


def _options(warps: int, registers: int | None) -> dict[str, Any]:
    """Options of the compiler; with several warps it may be told to use so many registers."""
    options: dict[str, Any] = {"num_warps": warps}
    # Equal rows then cancel exactly, by every compiler.
    options["enable_fp_fusion"] = False
    if registers is not None and torch.version.hip is None:  # AMD's compiler has no such option
        options["maxnreg"] = registers
    return options


def scale(grad: Tensor, factor: Tensor) -> None:
    """Multiply the gradient (B, C) by the factor () or (B,) in place; 1 costs a launch only."""
    with _on(grad.device):
        scaling.scale_kernel[(len(grad),)](
            *(grad, *grad.stride(), *_view(factor, 1), grad.shape[1]),
            BLOCK_C=1024,
            WIDE=_wide(grad),
            num_warps=4,
        )


def _wide(*tensors: Tensor | None) -> bool:
    """Whether a column times its stride needs 64 bits in any of them (rows always have them)."""
    return any(t is not None and t.shape[-1] * t.stride(-1) >= 2**31 for t in tensors)


def _count_by(inputs: LossInputs) -> triton.language.constexpr:
    """How the kernels come to what means are divided by."""
    if inputs.reduction != "mean":
        return sums.UNDIVIDED
    if inputs.normaliser is not None:
        return sums.GIVEN
    if all(value is None for value in (inputs.labels, inputs.rows, inputs.valid)):
        return sums.ALL_ROWS
    here = inputs.logits.shape[0] <= COUNT_HERE
    return sums.COUNTED_HERE if here else sums.COUNTED_BEFORE


def _count(inputs: LossInputs, counts: Tensor, tallies: Tallies) -> None:
    """The two numbers that the means divide by, of a large batch, into `counts`."""
    vectors = (inputs.labels, inputs.class_weight, inputs.rows, inputs.valid)
    batch = inputs.logits.shape[0]
    sums.count_kernel[(triton.cdiv(batch, SUMMED),)](
        *(*(_flat(t) for t in vectors), counts, *tallies),
        *(batch, inputs.classes, inputs.num_rows, inputs.ignore_index),
        HAS_TARGETS=inputs.form != NONE,
        SUMMED=SUMMED,
        num_warps=4,
    )


def _arguments(inputs: LossInputs, out: LossOutputs, factor: Tensor, tallies: Tallies) -> list[Any]:
    """Arguments of all kernels, in their order; what is absent is None, which is compiled in."""
    x = inputs.logits
    share = inputs.teacher_weight if inputs.num_teachers > 1 else None
    return [
        *_view(x, 2),
        *_view(inputs.teacher, 3),
        *_view(inputs.teacher_index, 3),
        *_view(inputs.tail, 2),
        *_view(share, 2),
        *(_flat(t) for t in (inputs.rows, inputs.valid, inputs.labels, inputs.class_weight)),
        *_view(out.grad, 2),
        *(out.ce, out.kl, out.has_target.view(torch.int8), out.loss),
        *(out.counts, *tallies, *_view(factor, 1)),
        *(*_view(inputs.row_temperature, 1), *_view(inputs.row_weight, 1)),
        *(*_view(inputs.normaliser, 1), *x.shape, inputs.classes, inputs.num_rows),
        *(inputs.temperature, inputs.kl_weight, inputs.label_weight),
        *(inputs.label_smoothing, inputs.beta, 1 - inputs.beta, inputs.ignore_index),
    ]


def _view(tensor: Tensor | None, ndim: int) -> tuple[Any, ...]:
    """A pointer and the strides of its axes; those that it lacks in front have no stride."""
    strides = () if tensor is None else tensor.stride()
    return (tensor, *(0,) * (ndim - len(strides)), *strides)


def _flat(vector: Tensor | None) -> Tensor | None:
    """A vector as the kernels take it, its elements side by side."""
    return None if vector is None else vector.contiguous()


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


class Tallies(NamedTuple):
    """What the programs of a launch add up together, in groups of `SUMMED` rows.

    Attributes:
        tickets: (1 + groups,) int32, programs that are done: groups, and of each; 0 between calls.
        sums: (2 * groups,) float32.
    """

    tickets: Tensor
    sums: Tensor


_kept: dict[tuple[torch.device, int], Tallies] = {}


@contextlib.contextmanager
def _tallies(logits: Tensor) -> Iterator[Tallies]:
    """The tallies of this device's current stream.

    The last program sets tickets back, so that a call needs no launch for that; one that is
    interrupted may not have done so, and its tallies are given up. A graph that is being captured
    gets its own, zeroed whenever it is replayed, beside whatever else then runs.
    """
    device, groups = logits.device, triton.cdiv(logits.shape[0], SUMMED)
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        yield _zeroed(groups, device)
        return
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    kept = _kept.pop((device, stream), None)
    if kept is None or len(kept.sums) < 2 * groups:
        kept = _zeroed(triton.next_power_of_2(groups), device)
    yield kept
    _kept[device, stream] = kept


def _zeroed(groups: int, device: torch.device) -> Tallies:
    return Tallies(
        tickets=torch.zeros(1 + groups, dtype=torch.int32, device=device),
        sums=torch.empty(2 * groups, dtype=torch.float32, device=device),
    )
