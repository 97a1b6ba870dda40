"""Processes that share the classes of a loss, for `test_sharded.py`: `Group`s of them.

This file is run with each group's file and two ends of pipes for each process; it forks them, so
that PyTorch is imported once. Each reads calls of `distillation_loss_sharded` from the one and
writes what became of each to the other, as `send` frames them; it ends where the calls do.
"""

from __future__ import annotations

import datetime
import importlib
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets, distillation_loss_sharded


def send(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Write a message that holds tensors."""
    buffer = io.BytesIO()
    torch.save(message, buffer)
    pipe.write(len(buffer.getvalue()).to_bytes(8, "little") + buffer.getvalue())
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, Any] | None:
    """Read a message, None where there is no more."""
    size = int.from_bytes(pipe.read(8), "little")
    return torch.load(io.BytesIO(pipe.read(size)), weights_only=True) if size else None


class Group:
    """Processes that share the classes; `theirs` are the ends of pipes that each of them has."""

    def __init__(self, count: int) -> None:
        self.count = count
        calls, answers = ([os.pipe() for _ in range(count)] for _ in range(2))
        self.theirs = [(call[0], answer[1]) for call, answer in zip(calls, answers, strict=True)]
        self.calls = [os.fdopen(end, "wb") for _, end in calls]
        self.answers = [os.fdopen(end, "rb") for end, _ in answers]

    def __call__(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What became of the call of each."""
        for pipe, call in zip(self.calls, calls, strict=True):
            send(pipe, call)
        answers = [receive(pipe) for pipe in self.answers]
        assert all(answers), "a process ended"
        return answers


@contextmanager
def started(folder: Path, *counts: int) -> Iterator[dict[int, Group]]:
    """Groups of so many processes each, which end with the block."""
    groups = {count: Group(count) for count in counts}
    theirs = [end for group in groups.values() for ends in group.theirs for end in ends]
    told = [(str(folder / str(count)), group.theirs) for count, group in groups.items()]
    process = subprocess.Popen([sys.executable, __file__, json.dumps(told)], pass_fds=theirs)
    for end in theirs:
        os.close(end)
    try:
        yield groups
    finally:
        for group in groups.values():
            for pipe in group.calls:
                pipe.close()
        code = process.wait(timeout=60)
        for group in groups.values():
            for pipe in group.answers:
                pipe.close()
    assert code == 0


def fields_of(targets: DenseTargets | TopKTargets) -> dict[str, Any]:
    """The tensors that there are."""
    return {k: v for k, v in vars(targets).items() if v is not None}


def parts_of(
    call: dict[str, Any], widths: list[int], *, padding: int = 0, junk: float = math.nan
) -> list[dict[str, Any]]:
    """The calls of processes with so many classes each; what pads them is not to be looked at."""
    calls, start, classes = [], 0, call["logits"].shape[-1]
    for width in widths:
        at = slice(start, start + width)
        pad = padding if at.stop == classes else 0

        def columns(value: torch.Tensor, at: slice = at, pad: int = pad) -> torch.Tensor:
            return torch.nn.functional.pad(value[..., at], (0, pad), value=junk)

        mine = {**call, "logits": columns(call["logits"]), "offset": start, "num_classes": classes}
        if isinstance(call.get("targets"), DenseTargets):
            mine["targets"] = fields_of(call["targets"])
            mine["targets"]["logits"] = columns(call["targets"].logits)
        elif isinstance(call.get("targets"), TopKTargets):
            mine["targets"] = fields_of(call["targets"])
        elif call.get("targets") is not None:
            mine["targets"] = columns(call["targets"])
        if call.get("class_weight") is not None:
            mine["class_weight"] = call["class_weight"][at] if width else torch.ones(pad)
        calls.append({"factor": torch.ones(()), "targets": None, **mine})
        start += width
    assert start == classes
    return calls


def outcome(
    logits: torch.Tensor, targets: Any, factor: torch.Tensor, **settings: Any
) -> dict[str, Any]:
    """The parts and the gradient, or what was refused; `targets` by their fields."""
    logits.requires_grad_()
    if isinstance(targets, dict):
        targets = (TopKTargets if "index" in targets else DenseTargets)(**targets)
    before = collectives[:]
    try:
        parts = distillation_loss_sharded(logits, targets, return_parts=True, **settings)
    except BadConfig as error:
        return {"error": str(error)}
    forward = collectives[len(before) :]
    (grad,) = torch.autograd.grad(parts.loss, logits, factor.to(parts.loss).expand_as(parts.loss))
    backward = collectives[len(before) + len(forward) :]
    found = {name: value.detach() for name, value in parts._asdict().items()}
    return {**found, "grad": grad, "forward": forward, "backward": backward}


collectives: list[int] = []
"""How many numbers this process gave to each so far."""


def counting(collective: Any, given: int) -> Any:
    """A collective that is counted; `given` is the place of what the process gives."""

    def counted(*arguments: Any, **options: Any) -> Any:
        collectives.append(arguments[given].numel())
        return collective(*arguments, **options)

    return counted


def main() -> None:
    """Fork them, and fail if one does."""
    importlib.import_module("torch._dynamo")  # which the first call would import in each
    groups, children = json.loads(sys.argv[1]), []
    every = {end for _file, theirs in groups for mine in theirs for end in mine}
    for file, theirs in groups:
        for rank, mine in enumerate(theirs):
            children.append(os.fork())
            if children[-1] == 0:
                for end in every - set(mine):
                    os.close(end)
                serve(file, rank, len(theirs), *mine)
                return
    for end in every:
        os.close(end)
    ended = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(any(ended))


def serve(file: str, rank: int, count: int, reading: int, writing: int) -> None:
    """Join, then answer."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(file, count),
        rank=rank,
        world_size=count,
        timeout=datetime.timedelta(seconds=60),
    )
    dist.all_gather = counting(dist.all_gather, 1)
    dist.all_reduce = counting(dist.all_reduce, 0)
    with os.fdopen(reading, "rb") as calls, os.fdopen(writing, "wb") as answers:
        while (call := receive(calls)) is not None:
            send(answers, outcome(**call))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
