"""The language-model teacher: any encoder or decoder of transformers, reading the past actions.

Promise: on a CPU, the same seed, settings and number of threads give the same teacher; training
touches no global random state. The last `attended` actions are read as text, the pooled state
decides through `antcache.teacher.heads`, as in the sequence teacher (Ghosh et al. 2023, whose
teachers are language models with heads for action, verb and noun). Training stops early by videos
held out of the training split. The trained teacher holds settings and tokenizer of its model, and
never needs the checkpoint that it came from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Taxonomy
from antcache.devices import pick_device, uses_bfloat16
from antcache.errors import BadCheckpoint, BadConfig, NotFound
from antcache.evaluation.metrics import top_k_accuracy, true_class_ranks
from antcache.hub import quiet
from antcache.progress import Progress
from antcache.teacher.base import ARRAYS_FILE, Teacher, TeacherOutput
from antcache.teacher.histories import Examples, concatenate
from antcache.teacher.language.checkpoint import (
    import_transformers,
    new_model,
    open_model,
    read_settings,
)
from antcache.teacher.language.config import LanguageConfig
from antcache.teacher.language.network import LanguageNetwork, resize, token_limit
from antcache.teacher.language.text import ActionTokens, action_texts
from antcache.teacher.training import Descent, one_cycle, random_state, take_weights, weights

log = logging.getLogger(__name__)

MODEL_FOLDER = "model"
"""Of a teacher's folder: settings and tokenizer of the language model."""
BLOCK = 256  # examples scored at a time
BUCKET = 32  # batches that are sorted by length together


class LanguageTeacher(Teacher):
    """A language model with heads; see the module."""

    kind = "language"
    has_features = True

    def __init__(self, taxonomy: Taxonomy, config: LanguageConfig, device: str = "cpu") -> None:
        import_transformers()
        self.taxonomy = taxonomy
        self.config = config
        self.device = pick_device(device)
        self._autocast = uses_bfloat16(config.precision, self.device)
        self._settings: Any = None
        self._tokenizer: Any = None
        self._tokens: ActionTokens | None = None
        self._network: LanguageNetwork | None = None

    def _fit(self, examples: Examples, scripts: Examples | None, progress: Progress) -> None:
        """Train from the checkpoint on `examples` and `scripts` together.

        Raises:
            BadConfig: the checkpoint can't be used.
            NotFound: there is no such checkpoint.
        """
        train, held = self._hold_out(examples)
        if scripts is not None:
            train = concatenate([train, scripts])
        with random_state(self.device, self.config.seed):
            model, self._tokenizer, _ = open_model(self.config, self.config.form)
            self._build(model)
            self._train(train, held, progress)

    def predict(self, examples: Examples) -> TeacherOutput:
        """Scores (N, C) of every action, and the model's pooled state (N, E), after each history.

        Raises:
            BadConfig: the teacher was neither trained nor loaded.
        """
        if self._network is None:
            raise BadConfig("this teacher was not trained yet")
        network = self._network.eval()
        texts = _Texts(self, examples)
        logits = np.empty((len(examples), len(self.taxonomy.actions)), dtype=np.float32)
        states = np.empty((len(examples), network.width), dtype=np.float32)
        order = torch.argsort(texts.lengths, stable=True)
        with torch.inference_mode():
            for rows in torch.split(order, BLOCK) if len(examples) else ():
                outputs, state = network(*texts[rows], autocast=self._autocast)
                at = rows.cpu().numpy()
                logits[at], states[at] = outputs[0].cpu().numpy(), state.cpu().numpy()
        return TeacherOutput(logits=logits, features=states)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name; `tokens` (K,) are the vocabulary's ids whose embeddings are kept."""
        if self._network is None:
            raise BadConfig("this teacher was not trained yet")
        return weights(self._network)

    def write_files(self, folder: Path) -> None:
        """Keep settings and tokenizer of the model in the teacher's folder."""
        with quiet(import_transformers()):
            self._settings.save_pretrained(folder / MODEL_FOLDER)
            self._tokenizer.save_pretrained(folder / MODEL_FOLDER)

    def read_files(self, folder: Path) -> None:
        """Take over what `write_files` wrote.

        Raises:
            BadCheckpoint: it is not there, or can't be read.
        """
        try:
            self._settings, self._tokenizer = read_settings(folder / MODEL_FOLDER)
            kept = folder / ARRAYS_FILE  # what `restore` will be given
            model = new_model(folder / MODEL_FOLDER, self._settings, weights=kept)
            with random_state(self.device, self.config.seed):
                self._build(model)
        except (BadConfig, NotFound) as error:
            raise BadCheckpoint(
                "the teacher's language model can't be read", where=folder, found=error
            ) from error

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `arrays` gave, after `read_files`.

        Raises:
            BadCheckpoint: names, shapes or tokens differ.
        """
        if self._network is None:
            raise BadCheckpoint("the files of the language model are missing")
        network = self._network
        own = network.tokens.cpu().numpy()
        if "tokens" in arrays and not np.array_equal(arrays["tokens"], own):
            raise BadCheckpoint("the weights are for another tokenizer")
        take_weights(network, arrays)

    def _build(self, model: Any) -> None:
        """The network around `model`, whose settings and tokenizer are ours."""
        resize(model, len(self._tokenizer))
        self._settings = model.config
        texts = action_texts(self.taxonomy, self.config.form)
        self._tokens = ActionTokens.of(self._tokenizer, texts, self.config.form, token_limit(model))
        vocabulary = torch.from_numpy(self._tokens.vocabulary)
        network = LanguageNetwork(self.taxonomy, self.config, model, vocabulary)
        self._network = network.to(self.device).eval()

    def _hold_out(self, examples: Examples) -> tuple[Examples, Examples | None]:
        """Examples to train on, and those of the videos that early stopping looks at."""
        groups = len(np.unique(examples.group))
        if not self.config.held_out:
            return examples, None
        if groups < 2:
            log.info("a single video: nothing is held out, and training does not stop early")
            return examples, None
        count = min(max(round(1 / self.config.held_out), 2), groups)
        held = examples.folds(count, self.config.seed) == 0
        return examples[~held], examples[held]

    def _train(self, train: Examples, held: Examples | None, progress: Progress) -> None:
        config, network = self.config, self._network
        assert network is not None
        texts = _Texts(self, train)
        target = torch.from_numpy(train.target).to(self.device)
        weight = self._class_weight(train.target)
        steps = config.epochs * math.ceil(len(target) / config.batch)
        descent = Descent(
            network.groups(config),
            lambda step: one_cycle(step / steps, config.warmup),
            clipped=network.parameters(),
        )
        best, kept, waited = -math.inf, None, 0
        for epoch in range(config.epochs):
            network.train()
            total = torch.zeros((), device=self.device)
            batches = _bucketed(texts.lengths, config.batch)
            for i, rows in enumerate(batches):
                outputs, _ = network(*texts[rows], autocast=self._autocast)
                loss = network.heads.loss(outputs, target[rows], config, class_weight=weight)
                total += descent.step([loss]) * len(rows)
                progress("epochs", epoch + (i + 1) / len(batches), config.epochs)
            words = f"epoch {epoch + 1} of {config.epochs}: loss {total / len(target):.4f}"
            if held is None:
                log.info(words)
                continue
            figures = _held_out_figures(self.predict(held).logits, held.target)
            shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            log.info("%s; %d held out: %s", words, len(held), shown)
            value = -figures["nll"] if config.metric == "nll" else figures[config.metric]
            waited += 1
            if value > best:
                best, waited = value, 0
                kept = {name: t.clone() for name, t in network.state_dict().items()}
            if waited >= config.patience:
                log.info("stopped early: no better %s for %d epochs", config.metric, waited)
                break
        if kept is not None:
            network.load_state_dict(kept)
        network.eval()

    def _class_weight(self, target: NDArray[np.int64]) -> Tensor | None:
        """Weights (C,) of the actions; those without an example have none."""
        if not self.config.balance:
            return None
        counts = np.bincount(target, minlength=len(self.taxonomy.actions)).astype(float)
        weight = np.where(counts > 0, np.maximum(counts, 1) ** -self.config.balance, 0.0)
        weight *= counts.sum() / (weight * counts).sum()
        return torch.from_numpy(weight.astype(np.float32)).to(self.device)


class _Texts:
    """The texts of N histories on the teacher's device, and batches of them."""

    def __init__(self, teacher: LanguageTeacher, examples: Examples) -> None:
        assert teacher._tokens is not None
        attended = examples.history[:, -teacher.config.attended :]
        ids, starts = teacher._tokens.encode(attended)
        self.pad = teacher._tokens.pad
        self.ids = torch.from_numpy(ids).to(teacher.device)
        self.starts = torch.from_numpy(starts[:-1]).to(teacher.device)
        self.lengths = torch.from_numpy(np.diff(starts)).to(teacher.device)
        self.history = torch.from_numpy(examples.history).to(teacher.device)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, L), lengths (B,) and histories (B, h)."""
        lengths = self.lengths[rows]
        place = torch.arange(int(lengths.max()), device=rows.device)
        at = (self.starts[rows, None] + place).clamp(max=len(self.ids) - 1)
        ids = torch.where(place < lengths[:, None], self.ids[at], self.pad)
        return ids, lengths, self.history[rows]


def _bucketed(lengths: Tensor, batch: int) -> list[Tensor]:
    """Rows in random batches of about equal length: padding costs as much as text does."""
    order = torch.randperm(len(lengths)).to(lengths.device)
    batches: list[Tensor] = []
    for rows in torch.split(order, batch * BUCKET):
        batches += torch.split(rows[torch.argsort(lengths[rows], stable=True)], batch)
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def _held_out_figures(logits: NDArray[np.float32], target: NDArray[np.int64]) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent, and the mean negative log-likelihood in nats."""
    ranks = true_class_ranks(logits, target)
    return {
        "top1": top_k_accuracy(ranks, 1),
        "top5": top_k_accuracy(ranks, 5),
        "nll": float(F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(target))),
    }
