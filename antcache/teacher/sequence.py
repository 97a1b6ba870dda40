"""The sequence teacher: a small transformer over the last actions, trained from scratch.

Promise: the same seed, settings and number of threads give the same teacher; training touches no
global random state. A transformer (pre-norm) attends to the last `attended` actions, each the sum
of an action, a verb and a noun embedding (of single labels, the first alone), and to a query token
whose output z decides: `antcache.teacher.heads` makes logits of z and of the whole history. With
times, each action also has an embedding of when it began and one of how long it has lasted, in
bins, and the query one of how long ago the last action ended. Cross-entropy on the action is joined
by one on the verb and one on the noun (Ghosh et al. 2023, the distillation paper, whose teachers
are multi-task).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from antcache.annotations import Taxonomy
from antcache.checks import Count, Range
from antcache.devices import pick_device
from antcache.errors import BadConfig
from antcache.evaluation.metrics import blocks
from antcache.progress import Progress
from antcache.teacher.base import Teacher, TeacherOutput
from antcache.teacher.heads import ActionHeads
from antcache.teacher.histories import Examples, concatenate
from antcache.teacher.trained import TrainedSettings
from antcache.teacher.training import (
    Descent,
    check_weights,
    one_cycle,
    random_state,
    take_weights,
    weights,
)

log = logging.getLogger(__name__)

EDGES_S = tuple(0.25 * 2 ** (i / 2) for i in range(22))
"""Edges in seconds between the bins of time: 2 to an octave, from 0.25 s to 6 min."""
MOST_LAYERS = 100
"""Of a network whose settings come from anybody: it is made before weights can be compared."""


@dataclass(frozen=True, kw_only=True)
class SequenceConfig(TrainedSettings):
    """Settings of the sequence teacher; tuned on training videos of EPIC-KITCHENS-55 held out."""

    times: bool = False
    """It is also told when the past actions began and how long they have lasted
    (`Examples.ago_s`)."""
    width: Count = 128
    """Width of embeddings and layers, D."""
    layers: Annotated[int, Range(1, MOST_LAYERS)] = 2
    """Transformer layers."""
    heads: Count = 4
    """Attention heads."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise BadConfig(
                "impossible width", expected=f"a multiple of {self.heads} heads", found=self.width
            )


class _Times(nn.Module):
    """Embeddings of when the past actions happened; times that are unknown have their own."""

    edges: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        # Bin 0 lies below the first edge, the last one but one above the last edge.
        self.unknown = len(EDGES_S) + 1
        self.register_buffer("edges", torch.tensor(EDGES_S), False)
        self.ago = nn.Embedding(self.unknown + 1, width)
        self.lasted = nn.Embedding(self.unknown + 1, width)
        self.idle = nn.Embedding(self.unknown + 1, width)
        for embedding in (self.ago, self.lasted, self.idle):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, ago_s: Tensor, lasted_s: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the tokens (B, h, D) and to the query (B, 1, D)."""
        idle_s = ago_s[:, -1:] - lasted_s[:, -1:]  # since the last action ended, 0 if it has not
        tokens = self.ago(self.bins(ago_s)) + self.lasted(self.bins(lasted_s))
        return tokens, self.idle(self.bins(idle_s))

    def bins(self, seconds: Tensor) -> Tensor:
        """Number of the bin of each time (any shape)."""
        bins = torch.bucketize(seconds.nan_to_num(), self.edges)
        return torch.where(seconds.isnan(), self.unknown, bins)


class _Network(nn.Module):
    """Logits of actions, verbs and nouns from histories (B, h); see the module."""

    def __init__(self, taxonomy: Taxonomy, config: SequenceConfig) -> None:
        super().__init__()
        self.attended = config.attended
        width = config.width
        self.heads = ActionHeads(taxonomy, width, config.length)
        actions, verbs, nouns = self.heads.sizes
        self.action_embedding = nn.Embedding(actions + 1, width)
        embeddings = [self.action_embedding]
        if taxonomy.paired:
            self.verb_embedding = nn.Embedding(verbs + 1, width)
            self.noun_embedding = nn.Embedding(nouns + 1, width)
            embeddings += [self.verb_embedding, self.noun_embedding]
        self.times = _Times(width) if config.times else None
        self.position = nn.Parameter(torch.empty(config.attended + 1, width))
        self.query = nn.Parameter(torch.zeros(width))
        layer = nn.TransformerEncoderLayer(
            width,
            config.heads,
            4 * width,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, config.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.dropout = nn.Dropout(config.dropout)
        for weight in (*(embedding.weight for embedding in embeddings), self.position):
            nn.init.normal_(weight, std=0.02)

    def groups(self, config: SequenceConfig) -> list[dict[str, Any]]:
        """Parameters with their learning rate and weight decay."""
        tables = self.heads.tables()
        others = [p for p in self.parameters() if all(p is not t for t in tables)]
        plain = [p for p in others if p.dim() < 2 or p is self.position]
        decayed = [p for p in others if all(p is not q for q in plain)]
        return [
            {"params": decayed, "lr": config.lr, "weight_decay": config.weight_decay},
            {"params": plain, "lr": config.lr, "weight_decay": 0.0},
            {"params": tables, "lr": config.memory_lr, "weight_decay": 0.0},
        ]

    def forward(self, history: Tensor, *times: Tensor) -> tuple[Tensor, ...]:
        """Logits (B, C), (B, V) and (B, O) of the action, verb and noun after `history` (B, h), or
        of the action alone; see `ActionHeads`.

        `times` are `ago_s` and `lasted_s` (B, h), if the network is told about them.
        """
        seen = slice(history.shape[1] - self.attended, None)
        actions, verbs, nouns = self.heads.padded(history[:, seen])
        tokens = self.action_embedding(actions)
        if self.heads.paired:
            tokens = tokens + self.verb_embedding(verbs) + self.noun_embedding(nouns)
        query = self.query.expand(len(tokens), 1, -1)
        if self.times is not None:
            when, idle = self.times(*(t[:, seen] for t in times))
            tokens, query = tokens + when, query + idle
        tokens = torch.cat([tokens, query], dim=1) + self.position
        z = self.dropout(self.encoder(self.dropout(tokens))[:, -1])
        outputs: tuple[Tensor, ...] = self.heads(z, history)
        return outputs


class SequenceTeacher(Teacher):
    """A small transformer and a memory; see the module."""

    kind = "sequence"

    def __init__(self, taxonomy: Taxonomy, config: SequenceConfig, device: str = "cpu") -> None:
        self.taxonomy = taxonomy
        self.config = config
        self.needs_times = config.times
        self.device = pick_device(device)
        self._made: _Network | None = None

    @property
    def _network(self) -> _Network:
        """The network, with its initial weights before it is trained."""
        if self._made is None:
            with random_state(self.device, self.config.seed):
                self._made = _Network(self.taxonomy, self.config).to(self.device).eval()
        return self._made

    def _fit(self, examples: Examples, scripts: Examples | None, progress: Progress) -> None:
        """Train from the initial weights on `examples` and `scripts` together."""
        everything = examples if scripts is None else concatenate([examples, scripts])
        inputs = self._inputs(everything)
        target = torch.from_numpy(everything.target).to(self.device)
        with random_state(self.device, self.config.seed):
            self._made = _Network(self.taxonomy, self.config).to(self.device)
            self._train(inputs, target, progress)
        self._network.eval()

    def _inputs(self, examples: Examples) -> list[Tensor]:
        """What the network is told: the histories (N, h), and their times if it wants them."""
        arrays: list[NDArray[Any] | None] = [examples.history]
        if self.config.times:
            examples.require_times()
            arrays += [examples.ago_s, examples.lasted_s]
        return [torch.from_numpy(a).to(self.device) for a in arrays if a is not None]

    def _train(self, inputs: list[Tensor], target: Tensor, progress: Progress) -> None:
        config, network = self.config, self._network
        steps = config.epochs * math.ceil(len(target) / config.batch)
        descent = Descent(
            network.groups(config),
            lambda step: one_cycle(step / steps, config.warmup),
            clipped=network.parameters(),
        )
        network.train()
        for epoch in range(config.epochs):
            total = torch.zeros((), device=self.device)
            order = torch.randperm(len(target)).to(self.device)
            for at in range(0, len(order), config.batch):
                rows = order[at : at + config.batch]
                with self._autocast():
                    outputs = network(*(x[rows] for x in inputs))
                loss = network.heads.loss(outputs, target[rows], config)
                total += descent.step([loss]) * len(rows)
            log.info("epoch %d of %d: loss %.4f", epoch + 1, config.epochs, total / len(target))
            progress("epochs", epoch + 1, config.epochs)

    def _autocast(self) -> torch.autocast:
        """bfloat16 on a GPU, float32 elsewhere."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"
        )

    def predict(self, examples: Examples) -> TeacherOutput:
        """Scores (N, C) of every action after each history."""
        out = np.empty((len(examples), len(self.taxonomy.actions)), dtype=np.float32)
        inputs = self._inputs(examples)
        with torch.inference_mode(), self._autocast():
            for rows in blocks(len(examples)):
                action = self._network(*(x[rows] for x in inputs))[0]
                out[rows] = action.float().cpu().numpy()
        return TeacherOutput(logits=out)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights, by name."""
        return weights(self._network)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises:
            BadCheckpoint: names or shapes differ.
        """
        with torch.device("meta"):  # sizes in settings are believed where the weights have them
            check_weights(_Network(self.taxonomy, self.config), arrays)
        take_weights(self._network, arrays)
