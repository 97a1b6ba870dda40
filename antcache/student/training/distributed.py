"""Several processes that train one student together, each with a share of every batch (torchrun).

Promise: the result is that of one process within float tolerance, dropout included (on a CPU; a GPU
draws other masks of the same distribution). Each process runs the head on its part of the batch
and sees everyone's output; all take the same objective of the whole batch, so that means over
padded frames or masked windows are those of one process; then gradients are summed. Only the first
process writes. Letters: B windows of a batch, W processes, b = ceil(B / W).

    torchrun --nproc-per-node 4 --no-python -- antcache student train STORE --run RUN
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from antcache.errors import BadConfig
from antcache.student.heads.head import HeadOutput
from antcache.student.heads.masks import Dropout, Site, bernoulli
from antcache.windows.dataset import Windows


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: this one, from 0.
        count: W.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            dist.barrier()

    def batches(
        self, windows: Windows, order: Tensor, size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the windows `order` (n,), given on the host.

        Yields:
            Positions (B,) of the whole batch, and features (b, T, D) of this process's part of it;
            the last part is filled up with the batch's first window.

        Raises:
            BadConfig: `size` is not a multiple of the processes.
        """
        if self.count == 1:
            yield from windows.batches(order, size)
            return
        if size % self.count:
            raise BadConfig(
                "the batch can't be split evenly over the processes",
                expected=f"batch_size a multiple of {self.count}",
                found=size,
            )
        whole = torch.split(order, size)
        own = torch.cat([self._part(rows) for rows in whole])
        parts = windows.batches(own, size // self.count)
        for rows, (_, features) in zip(whole, parts, strict=True):
            yield rows.to(windows.device), features

    def _part(self, rows: Tensor) -> Tensor:
        """This process's b of the rows (B,)."""
        part = -(-len(rows) // self.count)
        filled = torch.cat([rows, rows[:1].expand(part * self.count - len(rows))])
        return filled[self.rank * part : (self.rank + 1) * part]

    def dropout(self, num_windows: int) -> Any:
        """Context in which masks are drawn for all B windows, and this process's part is taken."""
        return Dropout(self._draw_part(num_windows)) if self.count > 1 else nullcontext()

    def _draw_part(self, num_windows: int) -> Any:
        part = -(-num_windows // self.count)

        def draw(site: Site, device: torch.device) -> Tensor:
            shape, rate, dtype = site
            if shape[0] != part:
                raise BadConfig(
                    "dropout whose first dimension is not the window can't be split",
                    expected=(part, ...),
                    found=shape,
                    hint="train in one process",
                )
            mask = bernoulli(((num_windows, *shape[1:]), rate, dtype), device)
            rows = torch.arange(self.rank * part, (self.rank + 1) * part, device=device)
            return mask.index_select(0, rows.where(rows < num_windows, 0))

        return draw

    def output_of_all(self, output: HeadOutput, num_windows: int, *, frames: bool) -> HeadOutput:
        """The output of the whole batch (B, ...) from this part's (b, ...).

        The gradient flows into this process's rows alone. `inputs` are large, and come only where
        `frames` says that they are needed.
        """
        if self.count == 1:
            return output
        idle = () if frames else ("inputs",)
        tensors = {k: v for k, v in output._asdict().items() if v is not None and k not in idle}
        return output._replace(**{k: self._joined(v)[:num_windows] for k, v in tensors.items()})

    def _joined(self, own: Tensor) -> Tensor:
        sent = own.detach().contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.count)]
        dist.all_gather(parts, sent)
        parts[self.rank] = own
        return torch.cat(parts)

    def gathered(self, own: Tensor, num_windows: int) -> Tensor:
        """What all processes have of `num_windows` windows in order, from this one's part."""
        return own if self.count == 1 else self._joined(own)[:num_windows]

    def part_of(self, order: Tensor) -> Tensor:
        """This process's part of the windows `order` (n,)."""
        return order if self.count == 1 else self._part(order)

    def sum_gradients(self, model: nn.Module) -> None:
        """Add up the gradients of all processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        together = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(together)
        parts = torch.split(together, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Processes()


def started() -> int:
    """How many processes torchrun started, joined or not; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "MASTER_ADDR" in os.environ else 1


def processes(device: str) -> Processes:
    """The processes that torchrun started, joined by the first call; else this one alone.

    They stay joined until this process ends: a group that is opened again finds the addresses of
    the one before in torchrun's store, and waits for ever. A group that is open is used as it is.

    Args:
        device: as `StudentConfig.device`; gloo connects CPUs, NCCL GPUs.
    """
    if not dist.is_available() or not dist.is_initialized():
        if started() < 2:
            return ALONE
        cuda = device != "cpu" and torch.cuda.is_available()
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else None
        if own is not None:
            torch.cuda.set_device(own)  # else NCCL has to guess the GPU of its first message
        dist.init_process_group("nccl" if cuda else "gloo", device_id=own)
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), dist.get_world_size())


def own_device(device: str, group: Processes) -> str:
    """The device of this process: with several on GPUs, the one of its local rank.

    Raises:
        BadConfig: several processes are to share one GPU.
    """
    if group.count == 1 or device == "cpu" or not torch.cuda.is_available():
        return device
    if device not in ("auto", "cuda"):
        raise BadConfig(
            "one GPU for several processes", expected="device auto or cuda", found=device
        )
    return f"cuda:{os.environ['LOCAL_RANK']}"
