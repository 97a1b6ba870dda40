"""Several students of one architecture trained at once: their parameters stacked, one forward pass.

Promise: each student's weights, order, dropout and objective are those of its solo run, so that its
result is too, within float tolerance (on a GPU with other masks of the same distribution); what
becomes of one does not touch the others. Letters: S students, B windows of a batch, T time,
D feature, C classes, F figures of a step.

The parameters of each student's model become views of the stacked ones (S, ...), and so do their
gradients: each keeps its own optimizer, clipping, average and checkpoints as if it were alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from antcache.errors import NotFinite
from antcache.kernels import distillation_loss
from antcache.progress import Progress, silent
from antcache.student.heads.head import HeadOutput
from antcache.student.heads.masks import Dropout, Site, bernoulli, sites_of
from antcache.student.training.loop import FIGURES, Trainer, epoch_seed
from antcache.student.training.objective import Losses, losses
from antcache.student.training.objective_config import ATTENTION


def can_stack(model: nn.Module) -> bool:
    """Whether PyTorch can run several of this model at once: it can't for its LSTM and GRU."""
    return not any(isinstance(module, nn.RNNBase) for module in model.modules())


class Stack:
    """Students that are trained at once; the trainers go on to own their models and optimizers.

    Args:
        trainers: S of them, with windows of the same features and the same rows, batch size, and
            structure of model and objective (`sweep.check_members` sees to that).
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = list(trainers)
        self._base = trainers[0]
        self._objectives = [_shared(trainer) or ("alone", i) for i, trainer in enumerate(trainers)]
        self._sites: dict[int, list[list[Site]]] = {}
        self._gradients: list[Tensor] = []
        self._members = [dict(trainer.model.named_parameters()) for trainer in trainers]
        self._parameters: dict[str, Tensor] = {}
        for name in self._members[0]:
            own = [member[name] for member in self._members]
            stacked = torch.stack([p.detach() for p in own]).requires_grad_()
            for parameter, view in zip(own, stacked.detach().unbind(), strict=True):
                parameter.data = view
                parameter.grad = None
            self._parameters[name] = stacked

    def train_epoch(
        self, epochs: Sequence[int], progress: Progress = silent
    ) -> list[dict[str, float] | NotFinite]:
        """Train one epoch of each student, whose number (from 1) is given for each.

        Returns:
            For each student what `Trainer.train_epoch` returns, or the error that it raises.
        """
        base, count = self._base, len(self.trainers)
        size, steps = base.config.optimization.batch_size, base.steps_per_epoch
        seeds = [epoch_seed(t.config.seed, e) for t, e in zip(self.trainers, epochs, strict=True)]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        orders = [t.order(g) for t, g in zip(self.trainers, generators, strict=True)]
        if base.device.type != "cpu":
            generators = [torch.Generator(base.device).manual_seed(seed) for seed in seeds]
        split = [torch.split(order, size) for order in orders]
        order = torch.cat([rows for together in zip(*split, strict=True) for rows in together])
        record = torch.zeros(count, steps, len(FIGURES), device=base.device)
        for trainer in self.trainers:
            trainer.model.train()
        for step, (rows, features) in enumerate(base.windows.batches(order, count * size)):
            at = [(epoch - 1) * steps + step for epoch in epochs]
            together = rows.view(count, -1)
            record[:, step] = self._step(
                together, features.view(*together.shape, *features.shape[1:]), at, generators
            )
            progress("training steps", step + 1, steps)
        results: list[dict[str, float] | NotFinite] = []
        for trainer, epoch, values, own in zip(
            self.trainers, epochs, record.cpu(), orders, strict=True
        ):
            try:
                results.append(trainer.means(epoch, values, own))
            except NotFinite as error:
                results.append(error)
        return results

    def _step(
        self, rows: Tensor, features: Tensor, at: Sequence[int], generators: list[torch.Generator]
    ) -> Tensor:
        """One step of all students on windows `rows` (S, B) with features (S, B, T, D).

        Returns the figures (S, F). `at` counts the steps of each student from 0.
        """
        masks = self._masks(features, generators)
        if self._gradients:
            torch._foreach_zero_(self._gradients)
        with self._base.autocast():
            output = self._forward(features.float(), masks)
            total, figures = self._losses(output, rows, features)
        total.backward()  # type: ignore[no-untyped-call]
        if not self._gradients:
            self._share_gradients()
        norms = []
        for trainer, step in zip(self.trainers, at, strict=True):
            trainer.set_rate(step)
            norms.append(trainer.update(step))
        return torch.cat([figures, torch.stack(norms)[:, None]], dim=1)

    def _share_gradients(self) -> None:
        """Make each student's gradients views of the stacked ones, once they are there.

        From now on backward adds to them in place. A parameter without a gradient has none alone
        either, and its optimizer leaves it as it is.
        """
        for name, stacked in self._parameters.items():
            if stacked.grad is None:
                continue
            self._gradients.append(stacked.grad)
            for member, view in zip(self._members, stacked.grad.unbind(), strict=True):
                member[name].grad = view

    def _forward(self, features: Tensor, masks: list[Tensor]) -> dict[str, Tensor]:
        """The fields of `HeadOutput` that there are, (S, B, ...) each."""
        outputs = self._base.config.losses.frame_outputs

        def one(parameters: Mapping[str, Tensor], own: Tensor, drop: list[Tensor]) -> Any:
            mask = iter(drop)
            with Dropout(lambda site, device: next(mask)):
                output: HeadOutput = torch.func.functional_call(
                    self._base.model, dict(parameters), (own,), outputs
                )
            return {k: v for k, v in output._asdict().items() if v is not None}

        # vmap has no rule for the CPU's fused attention and would take the students one by one.
        plain = features.device.type == "cpu"
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            found: dict[str, Tensor] = torch.func.vmap(one)(self._parameters, features, masks)
        return found

    def _masks(self, features: Tensor, generators: list[torch.Generator]) -> list[Tensor]:
        """A mask (S, B, ...) for each call of dropout.

        On a CPU each student's generator gives them one by one, as it does alone. On a GPU, where
        that would be hundreds of launches, it gives all of a step at once.
        """
        size = features.shape[1]
        if size not in self._sites:
            self._sites[size] = [self._sites_of(trainer, features[0]) for trainer in self.trainers]
        sites, device = self._sites[size], features.device
        if not sites[0]:
            return []
        if device.type == "cpu":
            drawn = [
                [bernoulli(site, device, generator) for site in own]
                for own, generator in zip(sites, generators, strict=True)
            ]
            return [torch.stack(own) for own in zip(*drawn, strict=True)]
        sizes = [torch.Size(shape).numel() for shape, _, _ in sites[0]]
        total = sum(sizes)
        uniform = torch.stack([torch.rand(total, generator=g, device=device) for g in generators])
        masks = []
        for i, part in enumerate(torch.split(uniform, sizes, dim=1)):
            shape, _, dtype = sites[0][i]
            rate = torch.tensor([own[i][1] for own in sites], pin_memory=True)[:, None]
            rate = rate.to(device, non_blocking=True)
            masks.append(((part >= rate) / (1 - rate)).to(dtype).view(len(sites), *shape))
        return masks

    def _sites_of(self, trainer: Trainer, features: Tensor) -> list[Site]:
        """The calls of dropout that one student makes for windows (B, T, D)."""
        with trainer.autocast():
            return sites_of(
                lambda: trainer.model(features.float(), **trainer.config.losses.frame_outputs)
            )

    def _losses(
        self, output: Mapping[str, Tensor], rows: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum () of all students' losses, and their terms (S, F - 1).

        Students whose objective is the same, and no more than cross-entropy and soft targets that
        no window lacks, share one call of the kernel: the mean over all their rows is the mean of
        their means. The others' objectives are taken one by one.
        """
        groups: dict[Any, list[int]] = defaultdict(list)
        for i, objective in enumerate(self._objectives):
            groups[objective].append(i)
        terms: dict[int, list[Tensor]] = {}
        totals = []
        for key, members in groups.items():
            if key[0] == "alone":
                (i,) = members
                trainer = self.trainers[i]
                batch = trainer.windows.batch(rows[i], features[i])
                there = {k: output[k][i] if k in output else None for k in HeadOutput._fields}
                own = HeadOutput(**there)  # type: ignore[arg-type]
                found = losses(own, batch, trainer.windows.targets, trainer.config)
                totals.append(found.loss)
                terms[i] = [term.detach() for term in found]
            else:
                total, columns = self._together(members, output, rows)
                totals.append(total)
                terms |= dict(zip(members, columns, strict=True))
        figures = [torch.stack(terms[i]) for i in range(len(self.trainers))]
        return torch.stack(totals).sum(), torch.stack(figures)

    def _together(
        self, members: list[int], output: Mapping[str, Tensor], rows: Tensor
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Sum () of the losses of students with one objective, and the terms of each."""
        trainer, count = self.trainers[members[0]], len(members)
        windows, config = trainer.windows, trainer.config
        logits = output.get("padded_logits", output["logits"])
        if count < len(self.trainers):
            logits, rows = logits[members], rows[members]
        teachers = windows.targets
        parts = distillation_loss(
            logits.float(),
            None if teachers is None else teachers.targets,
            windows.tensors.action[rows],
            rows=None if teachers is None else teachers.row[rows],
            temperature=config.distillation.temperature,
            weight=config.distillation.weight,
            label_smoothing=config.losses.label_smoothing,
            teacher_weight=None if teachers is None else teachers.share,
            num_classes=output["logits"].shape[-1],
            return_parts=True,
        )
        action, kl = parts.ce.mean(dim=1), parts.kl.mean(dim=1)
        taught = config.distillation
        distillation = kl * (0.0 if teachers is None else taught.weight * taught.temperature**2)
        zero = torch.zeros_like(action)
        given = {"loss": action + distillation, "action_loss": action}
        given["distillation_loss"] = distillation
        columns = [given.get(name, zero).unbind() for name in Losses._fields]
        return parts.loss * count, [list(own) for own in zip(*columns, strict=True)]


def _shared(trainer: Trainer) -> tuple[Any, ...] | None:
    """What students must agree on to share a call of the kernel; None where they can't at all."""
    taught, own, windows = trainer.config.distillation, trainer.config.losses, trainer.windows
    further = own.focal or own.verb_noun_weight or own.feature_weight or own.past_weight
    further = further or trainer.config.model.slots is not None
    if further or taught.align != "none" or taught.target_weights == ATTENTION:
        return None
    smoothing = own.label_smoothing
    if windows.targets is None:
        return (None, smoothing)
    if bool((windows.targets.row[trainer.first] < 0).any()):
        return None
    return (id(windows.targets), smoothing, taught.temperature, taught.weight)
