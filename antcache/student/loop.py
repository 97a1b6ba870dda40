"""The training loop on the device: epochs over windows, with neither loader nor, packed, host sync.

Promise: what an epoch does is determined by the seed, the number of the epoch and the state before
it alone, so that nothing but weights and optimiser has to be kept to resume exactly. PyTorch's
global random state is left as it was found. A loss that is not finite stops the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from antcache.errors import NotFinite
from antcache.progress import Progress, silent
from antcache.student.config import StudentConfig
from antcache.student.heads import Head, build_head
from antcache.student.objective import Batch, Losses, losses
from antcache.student.pack import Windows

SCORING_BATCH = 512
"""Windows that are scored at a time."""


class Trainer:
    """A head, its optimiser, and the windows they learn from.

    Args:
        config: the run's settings.
        windows: what is trained on, packed or streamed.
        num_classes: actions.
    """

    def __init__(self, config: StudentConfig, windows: Windows, num_classes: int) -> None:
        self.config = config
        self.windows = windows
        self.device = windows.device
        _, num_frames, dim = windows.shape
        with self._seeded(0):
            head = build_head(config, dim=dim, num_classes=num_classes, num_frames=num_frames)
        self.model: Head = head.to(self.device)
        self.optimiser = build_optimiser(config, self.model)
        self.steps_per_epoch = math.ceil(len(windows) / config.batch_size)
        cuda = self.device.type == "cuda"
        self._bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and cuda)

    def train_epoch(self, epoch: int, progress: Progress = silent) -> dict[str, float]:
        """Train epoch `epoch` (from 1) and return the mean of each loss and the gradient's norm.

        Raises:
            NotFinite: names the first step and the segments of its batch.
        """
        done = (epoch - 1) * self.steps_per_epoch
        total = self.config.epochs * self.steps_per_epoch
        self.model.train()
        with self._seeded(epoch):
            order = torch.randperm(len(self.windows))
            steps, batch_size = self.steps_per_epoch, self.config.batch_size
            record = torch.zeros(steps, len(Losses._fields) + 1, device=self.device)
            for step, batch in enumerate(self.windows.batches(order, batch_size)):
                self._set_rate(done + step, total)
                record[step] = self._step(*batch)
                progress("training steps", done + step + 1, total)
        values = record.cpu()  # the one wait for the device
        self._check_finite(epoch, values, order)
        sizes = torch.tensor(
            [len(rows) for rows in torch.split(order, batch_size)], dtype=torch.float64
        )
        means = (values.double() * sizes[:, None]).sum(0) / sizes.sum()
        return dict(zip((*Losses._fields, "gradient_norm"), means.tolist(), strict=True))

    def _step(self, rows: Tensor, features: Tensor) -> Tensor:
        """One step on the windows at `rows` (B,), whose features (B, T, D) are given.

        Returns its losses and the gradient's norm.
        """
        names = ("padded", "action", "frame_action", "target")
        labels = {name: getattr(self.windows, name).index_select(0, rows) for name in names}
        batch = Batch(features=features.float(), **labels)
        with self._autocast():
            output = self.model(batch.features, past=self.config.past_weight > 0)
            terms = losses(output, batch, self.windows.targets, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        terms.loss.backward()  # type: ignore[no-untyped-call]
        clip = self.config.grad_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimiser.step()
        return torch.stack([*(term.detach() for term in terms), norm])

    def _set_rate(self, step: int, total: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step, total, self.steps_per_epoch)

    def _check_finite(self, epoch: int, values: Tensor, order: Tensor) -> None:
        bad = ~values.isfinite().all(dim=1)
        if not bad.any():
            return
        step = int(bad.int().argmax())
        rows = torch.split(order, self.config.batch_size)[step].numpy()
        uids = ", ".join(self.windows.uid[rows].tolist())
        names = (*Losses._fields, "gradient_norm")
        raise NotFinite(
            "the loss or its gradient is not finite",
            where=f"epoch {epoch}, step {step + 1} of {len(values)}",
            found=", ".join(f"{n} {v:.4g}" for n, v in zip(names, values[step], strict=True))
            + f" on segments {uids}",
            hint="look at their features and soft targets, or lower --lr",
        )

    @torch.no_grad()
    def predict(self, windows: Windows) -> NDArray[np.float32]:
        """Scores (N, C) of all windows, as logits."""
        self.model.eval()
        scores = []
        for _, features in windows.batches(torch.arange(len(windows)), SCORING_BATCH):
            with self._autocast():
                scores.append(self.model(features.float()).logits.float())
        return torch.cat(scores).cpu().numpy()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16)

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """PyTorch's random state of one epoch (0: initial weights), restored afterwards."""
        sequence = np.random.SeedSequence([self.config.seed, epoch])
        seed = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            for device in cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield


def learning_rate(config: StudentConfig, step: int, total: int, steps_per_epoch: int) -> float:
    """Rate of `step` (from 0) of `total`: linear from 0 in the warm-up, then a cosine to 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def build_optimiser(config: StudentConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The configured optimiser over all parameters of `model`, in their order."""
    parameters = list(model.parameters())
    if config.optimiser == "adamw":
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    if config.optimiser == "adam":
        return torch.optim.Adam(
            parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.SGD(
        parameters,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=0.9,
        nesterov=True,
        fused=True,
    )
