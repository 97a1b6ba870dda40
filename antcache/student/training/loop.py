"""The training loop on the device: epochs over windows, with neither loader nor, packed, host sync.

Promise: what an epoch does is determined by the seed, the number of the epoch and the state before
it alone, so that nothing but weights, their average and the optimizer has to be kept to resume
exactly. PyTorch's global random state is left as it was found. A loss that is not finite stops the
run. With several processes the result is that of one (`distributed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from antcache.devices import uses_bfloat16
from antcache.errors import NotFinite
from antcache.progress import Progress, silent
from antcache.student.config import StudentConfig
from antcache.student.heads.head import HeadOutput, ModelShape
from antcache.student.model import build_student
from antcache.student.scoring import Scores, predict
from antcache.student.training.averaging import Average
from antcache.student.training.distributed import ALONE, Processes
from antcache.student.training.objective import Losses, losses
from antcache.student.training.optimization_config import OptimizationConfig
from antcache.windows.dataset import Windows

FIGURES = (*Losses._fields, "gradient_norm")
"""What is recorded of every step."""


class Trainer:
    """A student, its optimizer, and the windows it learns from.

    Args:
        config: the run's settings.
        windows: what is trained on, packed or read lazily.
        shape: what a student of these windows has to fit.
        rows: (n,) positions of the segments that are trained on, on the host; None is all. Each
            has one window, or in every epoch one of its `windows.choices`.
        group: the processes that train together.

    Attributes:
        average: moving average of the weights, or None.
        best: the weights of the best epoch so far, or None; see `keep_best`.
    """

    def __init__(
        self,
        config: StudentConfig,
        windows: Windows,
        shape: ModelShape,
        *,
        rows: Tensor | None = None,
        group: Processes = ALONE,
    ) -> None:
        self.config = config
        self.windows = windows
        self.rows = torch.arange(len(windows.choices)) if rows is None else rows
        self.group = group
        self.device = windows.device
        with self._seeded(0):
            student = build_student(config, shape)
        self.model = student.to(self.device)
        self.model.adjust_to(windows.tensors.action[self.first])
        self.optimizer = build_optimizer(config.optimization, self.model)
        decay = config.optimization.ema
        self.average = Average(self.model, decay) if decay else None
        self.best: dict[str, Tensor] | None = None
        self.steps_per_epoch = math.ceil(len(self.rows) / config.optimization.batch_size)
        cuda = self.device.type == "cuda"
        self._bfloat16 = uses_bfloat16(config.runtime.precision, self.device)
        self._forward: Callable[..., HeadOutput] = self.model
        compiled = config.runtime.compile == "on" or (config.runtime.compile == "auto" and cuda)
        if group.count == 1 and compiled:
            # The objective stays outside: a CUDA graph would copy all soft targets in every step.
            mode = "reduce-overhead" if cuda else "default"
            self._forward = torch.compile(self.model, mode=mode, dynamic=False)

    def train_epoch(self, epoch: int, progress: Progress = silent) -> dict[str, float]:
        """Train epoch `epoch` (from 1) and return the mean of each loss and the gradient's norm.

        Raises:
            NotFinite: names the first step and the segments of its batch.
        """
        done = (epoch - 1) * self.steps_per_epoch
        total = self.config.optimization.epochs * self.steps_per_epoch
        self.model.train()
        with self._seeded(epoch):
            order = self.order()
            record = torch.zeros(self.steps_per_epoch, len(FIGURES), device=self.device)
            batches = self.group.batches(self.windows, order, self.config.optimization.batch_size)
            for step, batch in enumerate(batches):
                self.set_rate(done + step)
                record[step] = self._step(*batch, done + step)
                progress("training steps", done + step + 1, total)
        return self.means(epoch, record.cpu(), order)  # the one wait for the device

    @property
    def first(self) -> Tensor:
        """A window (n,) of each segment that is trained on, on the device: labels and soft targets
        are the segment's, whichever is drawn."""
        return self.windows.choices.first[self.rows].to(self.device)

    def order(self, generator: torch.Generator | None = None) -> Tensor:
        """The windows (n,) of an epoch, one of each segment, in a random order; without a
        generator, PyTorch's own."""
        segments = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return self.windows.choices.draw(segments, generator)

    def _step(self, rows: Tensor, features: Tensor, step: int) -> Tensor:
        """One step on the windows at `rows` (B,); `step` counts from 0 over the whole run.

        Features are (B, T, D), or those of this process's part of the batch. Returns the losses
        and the gradient's norm.
        """
        batch = self.windows.batch(rows, features)
        config = self.config
        if self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        with self.autocast(), self.group.dropout(len(rows)):
            output = self._forward(batch.features, **config.losses.frame_outputs)
            decoded = config.losses.feature_weight > 0
            output = self.group.output_of_all(output, len(rows), frames=decoded)
            terms = losses(output, batch, self.windows.targets, config)
        self.optimizer.zero_grad(set_to_none=True)
        terms.loss.backward()  # type: ignore[no-untyped-call]
        self.group.sum_gradients(self.model)
        norm = self.update(step)
        return torch.stack([*(term.detach() for term in terms), norm])

    def set_rate(self, step: int) -> None:
        """Give the optimizer the rate of `step`, from 0 over the whole run."""
        total = self.config.optimization.epochs * self.steps_per_epoch
        rate = learning_rate(self.config.optimization, step, total, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def update(self, step: int) -> Tensor:
        """Clip the gradients, step optimizer and average; returns the gradient's norm ()."""
        clip = self.config.optimization.grad_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model, step + 1)
        return norm

    def means(self, epoch: int, values: Tensor, order: Tensor) -> dict[str, float]:
        """Means of an epoch's figures (steps, F), given on the host, over its windows `order` (n,).

        Raises:
            NotFinite: one of them is not finite.
        """
        self._check_finite(epoch, values, order)
        batches = torch.split(order, self.config.optimization.batch_size)
        sizes = torch.tensor([len(rows) for rows in batches], dtype=torch.float64)
        means = (values.double() * sizes[:, None]).sum(0) / sizes.sum()
        return dict(zip(FIGURES, means.tolist(), strict=True))

    def _check_finite(self, epoch: int, values: Tensor, order: Tensor) -> None:
        bad = ~values.isfinite().all(dim=1)
        if not bad.any():
            return
        step = int(bad.int().argmax())
        rows = torch.split(order, self.config.optimization.batch_size)[step].numpy()
        uids = ", ".join(self.windows.labels.uid[rows].tolist())
        raise NotFinite(
            "the loss or its gradient is not finite",
            where=f"epoch {epoch}, step {step + 1} of {len(values)}",
            found=", ".join(f"{n} {v:.4g}" for n, v in zip(FIGURES, values[step], strict=True))
            + f" on segments {uids}",
            hint="look at their features and soft targets, or lower `lr`",
        )

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """What is scored: the average of the weights if one is kept, else the weights."""
        return dict(self.model.named_parameters()) if self.average is None else self.average.weights

    @torch.no_grad()
    def keep_best(self) -> None:
        """Remember what is scored now as the best so far."""
        self.best = {name: value.detach().clone() for name, value in self.weights.items()}

    @torch.no_grad()
    def take_reported_weights(self) -> None:
        """Give the model the weights that are reported: the best epoch's, or what is scored."""
        chosen = self.weights if self.best is None else self.best
        for name, parameter in self.model.named_parameters():
            parameter.copy_(chosen[name])
        self.average = None

    def predict(self, windows: Windows, rows: Tensor | None = None) -> Scores:
        """Scores of all windows, or of those at `rows` (n,), by the weights that are scored."""
        self.model.eval()
        weights = dict(self.weights)

        def scored(features: Tensor) -> HeadOutput:
            with self.autocast():
                output: HeadOutput = torch.func.functional_call(
                    self.model, weights, (features.float(),)
                )
            return output

        return predict(scored, windows, rows, group=self.group)

    def autocast(self) -> torch.autocast:
        """bfloat16 for what gains by it, if the run is to use it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16)

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """PyTorch's random state of one epoch (0: initial weights), restored afterwards."""
        seed = epoch_seed(self.config.seed, epoch)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            for device in cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of an epoch (0: initial weights) of the run with `seed`."""
    sequence = np.random.SeedSequence([seed, epoch])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def learning_rate(config: OptimizationConfig, step: int, total: int, steps_per_epoch: int) -> float:
    """Rate of `step` (from 0) of `total`: linear from 0 in the warm-up, then a cosine to 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * min(1.0, (step + 1) / warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def build_optimizer(config: OptimizationConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The configured optimizer over all parameters of `model`, in their order."""
    parameters = list(model.parameters())
    if config.optimizer == "adamw":
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    if config.optimizer == "adam":
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
