"""What does the loss from hidden states save, beside the classifier and the loss one after another?

    python benchmarks/linear.py [--record] [--shape BxDxC] [--dtype float32] [--repeats N]

A step is forward and backward, to the gradients of hidden states, classifier and bias: `ours`
(`distillation_loss_linear`), the composition (`F.linear`, then `distillation_loss`) and eager
PyTorch (`F.linear`, `F.cross_entropy`, `F.kl_div`). Times are measured in turn in one process; a
ratio is the median of those within a turn. On a CPU it is the processor's time of one thread, which
others on the machine can't take away. Memory is what a step holds at its largest beside its
inputs (the teacher is one), gradients included: on a CPU the high-water mark of a process of its
own, on Linux; on a GPU what PyTorch's allocator says. Needs torch and what computes the loss.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, stdev

import torch
from alone import alone
from record import Figure, finish
from torch import Tensor
from torch.nn import functional as F

from antcache.kernels import (
    DenseTargets,
    Targets,
    TopKTargets,
    distillation_loss,
    distillation_loss_linear,
)

OURS, OTHERS = "ours", ("composition", "eager")
FORMS = ("dense", "top-50 with tail")
SHAPES = {"cpu": "1024x256x131072", "cuda": "8192x1024x131072"}
TEMPERATURE, TOP_K = 2.0, 50
MEMORY, TIMES = 0.25, 1.0
"""Memory at most this share of the others', and at least as fast."""

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True)
class Item:
    """Inputs of a step: leaves (B, D), (C, D), (C,), a teacher of B rows, labels (B,)."""

    hidden: Tensor
    classifier: Tensor
    bias: Tensor
    targets: Targets
    labels: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What the gradients are for."""
        return (self.hidden, self.classifier, self.bias)


def make(shape: tuple[int, int, int], form: str, device: str, dtype: torch.dtype) -> Item:
    """Random inputs; the top-k are those of the same number of places, distinct in a row."""
    batch, features, classes = shape
    generator = torch.Generator(device).manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device, dtype=dtype)

    labels = torch.randint(classes, (batch,), generator=generator, device=device)
    targets: Targets
    if form == "dense":
        targets = DenseTargets(normal(1, batch, classes).mul_(2))
    else:
        k = min(TOP_K, classes // 2)
        index = (labels[None, :, None] + torch.arange(k, device=device) * (classes // k)) % classes
        tail = torch.full((1, batch), -2.0, device=device)
        targets = TopKTargets(index, normal(1, batch, k), tail=tail)
    return Item(
        hidden=normal(batch, features).requires_grad_(),
        classifier=normal(classes, features).mul_(features**-0.5).requires_grad_(),
        bias=normal(classes).requires_grad_(),
        targets=targets,
        labels=labels,
    )


def ours(item: Item) -> Tensor:
    """The classifier and the loss in one."""
    return distillation_loss_linear(
        *item.leaves, item.targets, item.labels, temperature=TEMPERATURE
    )


def composition(item: Item) -> Tensor:
    """One after another."""
    logits = F.linear(*item.leaves)
    return distillation_loss(logits, item.targets, item.labels, temperature=TEMPERATURE)


def eager(item: Item) -> Tensor:
    """What one would write; a tail is one more outcome of both distributions."""
    logits, targets = F.linear(*item.leaves), item.targets
    log_p = F.log_softmax(logits / TEMPERATURE, -1)
    if isinstance(targets, DenseTargets):
        log_q = F.log_softmax(targets.logits[0] / TEMPERATURE, -1)
    else:
        assert targets.tail is not None
        others = logits.shape[1] - targets.index.shape[2]
        tail = targets.tail[0, :, None]
        log_k = F.log_softmax(targets.logit[0], -1) + torch.log1p(-tail.exp())
        spread = torch.tensor(float(others), device=logits.device).log()
        log_other = (tail - spread) / TEMPERATURE + spread
        log_q = F.log_softmax(torch.cat([log_k / TEMPERATURE, log_other], -1), -1)
        inside = log_p.gather(1, targets.index[0])
        outside = log_p.scatter(1, targets.index[0], -torch.inf).logsumexp(-1, keepdim=True)
        log_p = torch.cat([inside, outside], -1)
    kl = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return F.cross_entropy(logits, item.labels) + TEMPERATURE**2 * kl


LOSSES: dict[str, Callable[[Item], Tensor]] = {
    OURS: ours,
    "composition": composition,
    "eager": eager,
}


def step(name: str, item: Item) -> None:
    """Forward and backward."""
    LOSSES[name](item).backward()


def forget(item: Item) -> None:
    """Drop the gradients."""
    for leaf in item.leaves:
        leaf.grad = None


def seconds(item: Item, repeats: int) -> dict[str, list[float]]:
    """Of a step of each, in turn."""
    found: dict[str, list[float]] = {name: [] for name in LOSSES}
    clock = time.perf_counter if item.hidden.is_cuda else time.process_time
    for name in LOSSES:
        warm_up(name, item)
    for _ in range(repeats):
        for name in LOSSES:
            _wait(item)
            started = clock()
            step(name, item)
            _wait(item)
            found[name].append(clock() - started)
            forget(item)
    return found


def warm_up(name: str, item: Item) -> None:
    """Load and compile what there is to, on a few rows and classes like those of the item."""
    form = FORMS[isinstance(item.targets, TopKTargets)]
    for _ in range(2):
        step(name, make((8, 8, 256), form, item.hidden.device.type, item.hidden.dtype))
    _wait(item)


def _wait(item: Item) -> None:
    if item.hidden.is_cuda:
        torch.cuda.synchronize()


def peak(name: str, item: Item) -> int:
    """Bytes that a step holds at its largest beside its inputs."""
    warm_up(name, item)
    if item.hidden.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(name, item)
        _wait(item)
        forget(item)
        return torch.cuda.max_memory_allocated() - before
    CLEAR.write_text("5")  # the high-water mark falls to what is in use now
    before = _status("VmRSS")
    step(name, item)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def peaks(shape: str, form: str, device: str, dtype: str) -> dict[str, int]:
    """`peak` of each; on a CPU in processes of their own, none where that can't be told."""
    sizes = parse(shape)
    if device == "cuda":
        item = make(sizes, form, device, getattr(torch, dtype))
        return {name: peak(name, item) for name in LOSSES}
    if not CLEAR.exists():
        print("not measured: memory on the CPU (it takes Linux)")
        return {}

    def measure(name: str) -> int:
        return peak(name, make(sizes, form, device, getattr(torch, dtype)))

    return {name: alone(partial(measure, name)) for name in LOSSES}


def figures(
    shape: str, form: str, device: str, dtype: str, repeats: int, bytes_of: dict[str, int]
) -> list[Figure]:
    """Those of one form, whose `peaks` are given."""
    where = f"{form}, {' x '.join(shape.split('x'))}"
    taken = seconds(make(parse(shape), form, device, getattr(torch, dtype)), repeats)
    found = []
    for name, values in taken.items():
        memory = f", {bytes_of[name] / 1e6:,.0f} MB" if name in bytes_of else ""
        print(f"{where}: {name}, {median(values):.3f} s{memory}", flush=True)
    for other in OTHERS:
        if bytes_of:
            share = bytes_of[OURS] / bytes_of[other]
            found.append(
                Figure(
                    figure=f"memory over that of {other}, {where}",
                    value=round(share, 4),
                    unit="x",
                    at_most=MEMORY,
                )
            )
        ratios = [b / a for a, b in zip(taken[OURS], taken[other], strict=True)]
        found.append(
            Figure(
                figure=f"times as fast as {other}, {where}",
                value=round(median(ratios), 3),
                unit="x",
                at_least=TIMES,
                spread=round(stdev(ratios), 3) if repeats > 1 else None,
                n=repeats,
            )
        )
    return found


def parse(shape: str) -> tuple[int, int, int]:
    """`BxDxC` as numbers."""
    batch, features, classes = map(int, shape.split("x"))
    return batch, features, classes


def main() -> None:
    """Measure, print, and record if asked to."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--shape", default=SHAPES[device], metavar="BxDxC", help="rows first")
    parser.add_argument("--dtype", default="float32", help="of all floating tensors")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--form", choices=FORMS, help="this teacher alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    forms = [given.form] if given.form else FORMS
    # First, while this process holds nothing that its children would have.
    bytes_of = {form: peaks(given.shape, form, device, given.dtype) for form in forms}
    found = []
    for form in forms:
        found += figures(
            *(given.shape, form, device, given.dtype, given.repeats, bytes_of[form]),
        )
    for each in found:
        print(f"{each.figure:70}{each.value:10.3f} {each.unit}")
    finish("linear", found, record=given.record)


if __name__ == "__main__":
    main()
