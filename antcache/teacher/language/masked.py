"""The masked-LM training itself: steps, perplexity, and a state that it can be taken up from.

Promise: on a CPU, a training that is taken up ends with the weights that it would have ended with:
all that is random in a step is decided by the seed and the step's number alone.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antcache.devices import uses_bfloat16
from antcache.errors import BadCheckpoint
from antcache.files import atomic_file
from antcache.progress import Progress
from antcache.teacher.language.config import AdaptConfig
from antcache.teacher.language.recipes import Masked, Masker, Pieces, order
from antcache.teacher.training import Descent, one_cycle, random_state
from antcache.tensors import read_tensors, write_tensors

log = logging.getLogger(__name__)

HELD_OUT = 2048  # pieces that the perplexity is measured on, at most
LOGGED = 50  # steps between lines in the log


class MaskedTraining:
    """A training: model, optimizer and the step that it is at."""

    def __init__(
        self, model: Any, masker: Masker, config: AdaptConfig, device: torch.device
    ) -> None:
        self.model, self.masker, self.config, self.device = model, masker, config, device
        self.autocast = uses_bfloat16(config.precision, device)
        self.names = dict(model.named_parameters())  # what is tied counts once
        decayed = [p for p in self.names.values() if p.dim() > 1]
        plain = [p for p in self.names.values() if p.dim() < 2]
        self._descent = Descent(
            [
                {"params": decayed, "weight_decay": config.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lambda step: one_cycle((step + 1) / (config.steps + 1), config.warmup),
            clipped=self.names.values(),
            lr=config.lr,
        )

    @property
    def step(self) -> int:
        """Steps so far."""
        return self._descent.taken

    def train(self, pieces: Pieces, state: Path, facts: dict[str, Any], progress: Progress) -> None:
        """Step until all are done, saving the state on the way."""
        config, total = self.config, 0.0
        while self.step < config.steps:
            self.model.train()
            with random_state(self.device, _step_seed(config.seed, self.step)):
                total += float(self._descent.step(self._losses(pieces)))
            progress("adapting", self.step, config.steps)
            if self.step % LOGGED == 0:
                log.info("step %d of %d: loss %.4f", self.step, config.steps, total / LOGGED)
                total = 0.0
            if self.step % config.save_every == 0 and self.step < config.steps:
                self.save(state, facts)

    def _losses(self, pieces: Pieces) -> Iterator[Tensor]:
        """What this step adds up."""
        config, first = self.config, self.step * self.config.accumulate
        for at in range(first, first + config.accumulate):
            rows = order(len(pieces), at, config.batch, config.seed)
            batch = self.masker.batch(pieces.histories(rows), [config.seed, 1, at])
            yield self.loss(batch) / config.accumulate

    def loss(self, batch: Masked) -> Tensor:
        """Mean cross-entropy of the chosen tokens.

        The head, the widest layer by far, runs at those alone: it looks at each token by itself.
        """
        chosen = batch.chosen.to(self.device)

        def choose(module: nn.Module, args: Any, out: Any) -> Any:
            return type(out)(last_hidden_state=out.last_hidden_state.flatten(0, 1)[chosen][None])

        body = getattr(self.model, self.model.base_model_prefix)
        handle = body.register_forward_hook(choose)
        try:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
                out = self.model(
                    input_ids=batch.ids.to(self.device),
                    attention_mask=batch.there.to(self.device),
                )
        finally:
            handle.remove()
        return F.cross_entropy(out.logits[0].float(), batch.target.to(self.device))

    def perplexity(self, pieces: Pieces) -> float:
        """Of the masked tokens of `pieces`, with the same masks each time."""
        self.model.eval()
        total, count = 0.0, 0
        rows = order(len(pieces), 0, min(len(pieces), HELD_OUT), 0)
        with torch.inference_mode():
            for i in range(0, len(rows), self.config.batch):
                part = rows[i : i + self.config.batch]
                batch = self.masker.batch(pieces.histories(part), [0, 2, i])
                total += float(self.loss(batch)) * len(batch.target)
                count += len(batch.target)
        return math.exp(min(total / count, 700.0))

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write weights and the optimizer's state, in the place of what was there.

        Raises:
            WriteFailed: the disk refused.
        """
        tensors = {f"model.{n}": p.detach() for n, p in self.names.items()}
        for i, values in self._descent.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{key}": value for key, value in values.items()}
        metadata = {"step": str(self.step), "training": self._identity(facts)}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        with atomic_file(path, overwrite=True) as staged:
            write_tensors(staged, tensors, metadata)

    def load(self, path: Path, facts: dict[str, Any]) -> None:
        """Take over what `save` wrote.

        Raises:
            BadCheckpoint: it is of another training, or damaged.
        """
        try:
            tensors, metadata = read_tensors(path, framework="pt")
        except ValueError as error:
            raise BadCheckpoint(
                "the stopped training can't be read",
                where=path,
                found=error,
                hint="--overwrite starts anew",
            ) from error
        identity = self._identity(facts)
        own = {f"model.{name}": p.shape for name, p in self.names.items()}
        given = {n: t.shape for n, t in tensors.items() if n.startswith("model.")}
        if metadata.get("training") != identity or own != given:
            raise BadCheckpoint(
                "the stopped training had other settings or recipes",
                where=path,
                expected=identity,
                found=metadata.get("training", "none"),
                hint="resume with the same, or --overwrite to start anew",
            )
        state: dict[int, dict[str, Tensor]] = {}
        groups = self._descent.optimizer.state_dict()["param_groups"]
        try:
            for name, tensor in tensors.items():
                kind, _, rest = name.partition(".")
                if kind == "model":
                    self.names[rest].data.copy_(tensor)
                else:
                    number, _, key = rest.partition(".")
                    state.setdefault(int(number), {})[key] = tensor
            self._descent.optimizer.load_state_dict({"state": state, "param_groups": groups})
            self._descent.taken = int(metadata["step"])
        except (ValueError, KeyError) as error:
            raise BadCheckpoint(
                "the stopped training is damaged", where=path, hint="--overwrite starts anew"
            ) from error

    def _identity(self, facts: dict[str, Any]) -> str:
        settings = asdict(self.config)
        del settings["save_every"]  # may change
        return json.dumps({**settings, **facts}, sort_keys=True)


def _step_seed(seed: int, step: int) -> int:
    """A seed of torch for each step, unlike those of the neighbours' seeds."""
    return (seed * 1_000_003 + step) % 2**63
