"""A language model with the heads of the teachers: from tokens to a pooled state and logits.

Promise: the model keeps only the embeddings of tokens that can occur in the texts of actions (of
30,000 rows, a few hundred: the others would cost most of each training step), and tokens are rows
of that smaller table. All else of the model is as it came.

Letters: B batch, L tokens, E width of the model, h past actions.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

from antcache.annotations import Taxonomy
from antcache.errors import BadConfig
from antcache.teacher.heads import ActionHeads
from antcache.teacher.language.checkpoint import is_causal
from antcache.teacher.language.config import LanguageConfig

NUMBER = re.compile(r"\.(\d+)\.")
EMBEDDING = re.compile(r"embed|\bw[tp]e\b")


def token_limit(model: Any) -> int | None:
    """Longest text in tokens that a model reads, or None where positions have no end."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count positions from behind that of the padding.
            return limit - (0 if module.padding_idx is None else module.padding_idx + 1)
    return limit


def keep_tokens(model: Any, vocabulary: Tensor) -> None:
    """Cut the model's table of token embeddings down to the rows `vocabulary` (K,)."""
    table = model.get_input_embeddings()
    table.weight = nn.Parameter(table.weight.detach()[vocabulary].clone())
    table.num_embeddings, table.padding_idx = len(vocabulary), None


class LanguageNetwork(nn.Module):
    """Pooled state, and logits of action, verb and noun; see the module."""

    tokens: Tensor

    def __init__(
        self, taxonomy: Taxonomy, config: LanguageConfig, model: Any, vocabulary: Tensor
    ) -> None:
        """A network around `model`, which it cuts down to the tokens `vocabulary` (K,).

        Raises:
            BadConfig: the model can't be used so, or the pooling does not fit it.
        """
        super().__init__()
        causal = is_causal(model.config)
        if causal and config.pooling == "first":
            raise BadConfig(
                "the first token of a causal model has seen nothing",
                where="pooling",
                expected="last or mean",
                found=config.pooling,
            )
        accepted = inspect.signature(model.forward).parameters
        if "inputs_embeds" not in accepted or "attention_mask" not in accepted:
            raise BadConfig(
                "this kind of model can't be used",
                expected="one that takes inputs_embeds and attention_mask",
                found=model.config.model_type,
            )
        auto = "last" if causal else "first"
        self.pooling = auto if config.pooling == "auto" else config.pooling
        model.config.use_cache = False  # a decoder would keep what nobody asks for again
        keep_tokens(model, vocabulary)
        if config.model_dropout is not None:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = config.model_dropout
        self.register_buffer("tokens", vocabulary)
        self.model = model
        self.width = int(model.config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.heads = ActionHeads(
            taxonomy,
            self.width,
            config.length,
            factorized=config.factorized,
            memory=config.memory,
        )

    def state(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Pooled state (B, E) float32 of texts `ids` (B, L) of `lengths` (B,) tokens."""
        there = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        out = self.model(
            inputs_embeds=self.model.get_input_embeddings()(ids), attention_mask=there.long()
        )
        hidden: Tensor = out.last_hidden_state
        if self.pooling == "first":
            return hidden[:, 0].float()
        if self.pooling == "last":
            return hidden[torch.arange(len(ids), device=ids.device), lengths - 1].float()
        return (hidden.float() * there[:, :, None]).sum(dim=1) / lengths[:, None]

    def forward(
        self, ids: Tensor, lengths: Tensor, history: Tensor, *, autocast: bool
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Logits of `ActionHeads`, and the state (B, E); only the model runs in bfloat16."""
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=autocast):
            state = self.state(ids, lengths)
        return self.heads(self.dropout(state), history), state

    def groups(self, config: LanguageConfig) -> list[dict[str, Any]]:
        """Parameters with their learning rate and weight decay."""
        rates: list[tuple[Tensor, float, bool]] = []
        depth = {name: layer_of(name) for name, _ in self.model.named_parameters()}
        top = max((d for d in depth.values() if d is not None), default=0)
        for name, parameter in self.model.named_parameters():
            layer = depth[name]
            below = 0 if layer is None else top - layer
            rates.append((parameter, config.lr * config.layer_decay**below, True))
        tables = {id(p) for p in self.heads.tables()}
        for parameter in self.heads.parameters():
            in_table = id(parameter) in tables
            rates.append(
                (parameter, config.memory_lr if in_table else config.head_lr, not in_table)
            )
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for parameter, lr, decays in rates:
            decay = config.weight_decay if decays and parameter.dim() > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": lr, "weight_decay": decay}
            for (lr, decay), parameters in groups.items()
        ]


def layer_of(name: str) -> int | None:
    """Layer of a parameter by its name; embeddings are -1, what comes after all layers None."""
    number = NUMBER.search(name)
    if number:
        return int(number[1])
    return -1 if EMBEDDING.search(name) else None


def resize(model: Any, count: int) -> None:
    """Make room for `count` tokens; the rows of new ones are drawn as the model draws its own."""
    if count > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(count, mean_resizing=False)
