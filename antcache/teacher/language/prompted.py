"""A decoder as it is, asked what comes next: each action's name is scored behind the past ones.

Promise: nothing is trained, and the labels of no segment are looked at. The text is the prompt and
the last `attended` actions, each with a comma behind it; the score of an action is the
log-probability of its name and a comma behind that text, the sum over its tokens (or their mean,
see `PromptedConfig.normalize`). The comma is scored as well: it says that a name ends, so that
"wash pan" is not likelier than "wash pan lid" merely because it begins it.

What costs: a text is computed once, and its keys and values are shared by all C names; equal texts
are computed once, whatever segments they come from, and are kept with the teacher, which is saved
with what it has said. Only what it has not said yet needs the model again, the same one: a digest
of its files is compared. Models come from anybody and are opened as `checkpoint` opens them:
weights from safetensors alone, no code of theirs.

Letters: C actions, M texts, L tokens.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Taxonomy
from antcache.devices import pick_device, uses_bfloat16
from antcache.errors import BadCheckpoint, BadConfig
from antcache.hub import in_one_line
from antcache.progress import Progress
from antcache.teacher.base import Teacher, TeacherOutput
from antcache.teacher.histories import Examples
from antcache.teacher.language.checkpoint import (
    fetch,
    import_transformers,
    is_causal,
    open_model,
    read_settings,
)
from antcache.teacher.language.config import PromptedConfig
from antcache.teacher.language.network import token_limit
from antcache.teacher.language.text import action_texts, surrounding_tokens, tokenize
from antcache.teacher.training import random_state

log = logging.getLogger(__name__)

DIGEST_BYTES = 16


class PromptedTeacher(Teacher):
    """A decoder with a prompt; see the module."""

    kind = "prompted"

    def __init__(self, taxonomy: Taxonomy, config: PromptedConfig, device: str = "cpu") -> None:
        import_transformers()
        self.taxonomy = taxonomy
        self.config = config
        self.device = pick_device(device)
        self._autocast = uses_bfloat16(config.precision, self.device)
        self._names: _Names | None = None
        self._model: Any = None
        self._digest = np.zeros(0, dtype=np.uint8)
        self._said: dict[bytes, NDArray[np.float32]] = {}

    def _fit(self, examples: Examples, scripts: Examples | None, progress: Progress) -> None:
        """Open the model. It learns from no example: those are not looked at.

        Raises:
            BadConfig: the model can't be used.
            NotFound: there is no such model.
        """
        self._said, self._digest = {}, np.zeros(0, dtype=np.uint8)
        self._open()

    def predict(self, examples: Examples) -> TeacherOutput:
        """Scores (N, C) of every action after each history.

        Raises:
            BadConfig: the model can't be used, or is not the one that it was.
            NotFound: the model is not there any more, and something is asked for the first time.
        """
        attended = np.ascontiguousarray(examples.history[:, -self.config.attended :])
        texts, which = np.unique(attended, axis=0, return_inverse=True)
        scores = np.empty((len(texts), len(self.taxonomy.actions)), dtype=np.float32)
        empty = np.full(self.config.attended, -1, dtype=np.int64)
        base = self._scores(empty) if self.config.against_empty and len(texts) else 0.0
        for row, text in enumerate(texts):
            scores[row] = self._scores(text) - base
        return TeacherOutput(logits=scores[which.reshape(-1)])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What it has said: `texts` (M, attended) past actions, -1 for none, and `scores` (M, C);
        `model` is the digest of the files that it was said by."""
        shape = (len(self._said), self.config.attended)
        texts = [np.frombuffer(key, dtype=np.int64) for key in self._said]
        classes = len(self.taxonomy.actions)
        return {
            "texts": np.array(texts, dtype=np.int64).reshape(shape),
            "scores": np.array(list(self._said.values()), dtype=np.float32).reshape(-1, classes),
            "model": self._digest,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave.

        Raises:
            BadCheckpoint: something is missing, of another size, or no score.
        """
        classes, attended = len(self.taxonomy.actions), self.config.attended
        count = len(arrays["texts"]) if "texts" in arrays else 0
        expected: dict[str, tuple[tuple[int, ...], Any]] = {
            "texts": ((count, attended), np.int64),
            "scores": ((count, classes), np.float32),
            "model": ((DIGEST_BYTES,), np.uint8),
        }
        for name, (shape, dtype) in expected.items():
            if name not in arrays or arrays[name].shape != shape or arrays[name].dtype != dtype:
                raise BadCheckpoint("what was said is incomplete", found=f"no {name} that fit")
        texts, scores = arrays["texts"], arrays["scores"]
        if not ((texts >= -1) & (texts < classes)).all() or not np.isfinite(scores).all():
            raise BadCheckpoint("what was said is damaged")
        keys = (np.ascontiguousarray(text).tobytes() for text in texts)
        self._said = dict(zip(keys, scores, strict=True))
        self._digest = arrays["model"]

    def _open(self) -> None:
        """The model, and the tokens of all names; it has to be the one that spoke before."""
        folder = fetch(self.config.model, self.config.revision)
        settings, _ = read_settings(folder)
        if not is_causal(settings):
            raise BadConfig(
                "not a model that goes on with a text",
                where=folder,
                expected="a decoder",
                found=settings.model_type,
                hint="encoders are trained: --kind language",
            )
        digest = _digest(folder)
        if len(self._digest) and not np.array_equal(digest, self._digest):
            raise BadConfig(
                "another model than the one that has spoken so far",
                where=folder,
                hint="score everything anew: train the teacher with --overwrite",
            )
        with random_state(self.device, self.config.seed):
            model, tokenizer, new = open_model(self.config, "natural", auto="AutoModelForCausalLM")
        if new:
            raise BadConfig(
                "weights are missing from the checkpoint", where=folder, found=", ".join(new[:3])
            )
        texts = action_texts(self.taxonomy, "natural")
        self._names = _Names(tokenizer, self.config.prompt, texts, token_limit(model))
        self._model, self._digest = model.to(self.device).eval(), digest

    def _scores(self, text: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores (C,) of all actions after the past ones `text` (attended,)."""
        key = text.tobytes()
        if key not in self._said:
            if self._model is None:
                self._open()
            with in_one_line(self.config.model, BadConfig, "the language model can't be used"):
                self._said[key] = self._computed(text)
        return self._said[key]

    def _computed(self, text: NDArray[np.int64]) -> NDArray[np.float32]:
        names = self._names
        assert names is not None
        prefix = torch.tensor([names.prefix(text)], device=self.device)
        scores = torch.empty(len(names.tokens))
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast),
        ):
            out = self._model(prefix, use_cache=True)
            first = out.logits[0, -1].float().log_softmax(0)
            for rows in torch.split(names.order, self.config.batch):
                own = [names.tokens[int(i)] for i in rows]
                # Names are sorted by length: next to nothing is padded, and what is comes last,
                # where a decoder's earlier tokens do not see it.
                ids = torch.nn.utils.rnn.pad_sequence(
                    [torch.tensor(n) for n in own], batch_first=True
                ).to(self.device)
                past = copy.deepcopy(out.past_key_values)
                past.batch_repeat_interleave(len(own))
                later = self._later(ids, past, [len(n) for n in own])
                total = first[ids[:, 0]] + later
                if self.config.normalize == "tokens":
                    total = total / torch.tensor([len(n) for n in own], device=self.device)
                scores[rows] = total.cpu()
        found: NDArray[np.float32] = scores.numpy()
        return found

    def _later(self, ids: Tensor, past: Any, lengths: list[int]) -> Tensor:
        """Log-probability (B,) of all tokens but the first of names `ids` (B, L) of `lengths`."""
        if ids.shape[1] == 1:
            return torch.zeros(len(ids), device=ids.device)
        logits = self._model(ids[:, :-1], past_key_values=past, use_cache=True).logits.float()
        chosen = logits.gather(2, ids[:, 1:, None])[..., 0] - logits.logsumexp(2)
        place = torch.arange(1, ids.shape[1], device=ids.device)
        there = place < torch.tensor(lengths, device=ids.device)[:, None]
        return torch.where(there, chosen, 0.0).sum(dim=1)


class _Names:
    """Tokens of the prompt and of every action's name with its comma.

    Attributes:
        tokens: of each action (C), as they stand behind another one.
        order: (C,) actions by the number of their tokens.
    """

    def __init__(self, tokenizer: Any, prompt: str, texts: list[str], limit: int | None) -> None:
        """Tokenise all names behind the prompt.

        Raises:
            BadConfig: the tokenizer does not work action by action, or the model reads too little.
        """
        head = tokenize(tokenizer, [prompt])[0]
        whole = [f"{prompt} {text}," for text in texts]
        self.tokens: list[list[int]] = []
        for text, both in zip(whole, tokenize(tokenizer, whole), strict=True):
            if both[: len(head)] != head or len(both) == len(head):
                raise BadConfig("the tokenizer does not read a text action by action", found=text)
            self.tokens.append(both[len(head) :])
        self.order = torch.tensor(sorted(range(len(texts)), key=lambda i: len(self.tokens[i])))
        self._head = [*surrounding_tokens(tokenizer)[0], *head]
        longest = max(map(len, self.tokens))
        self._room = None if limit is None else limit - len(self._head) - longest
        if self._room is not None and self._room < 0:
            raise BadConfig(
                "the model does not read a whole action behind the prompt",
                expected=f"{len(self._head) + longest} tokens",
                found=limit,
            )

    def prefix(self, text: NDArray[np.int64]) -> list[int]:
        """Tokens of the prompt and the past actions, without the oldest where they do not fit."""
        past = [self.tokens[action] for action in text.tolist() if action >= 0]
        while self._room is not None and sum(map(len, past)) > self._room:
            past.pop(0)
        return [*self._head, *(token for name in past for token in name)]


def _digest(folder: Path) -> NDArray[np.uint8]:
    """Of the settings and tokenizer of a model, and of the names and sizes of its weights."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".txt", ".model"):
            total.update(file.name.encode() + file.read_bytes())
        elif file.suffix == ".safetensors":
            total.update(f"{file.name}:{file.stat().st_size}".encode())
    return np.frombuffer(total.digest(), dtype=np.uint8)
