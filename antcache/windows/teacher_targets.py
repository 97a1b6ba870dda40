"""What teachers say about some windows: soft targets as the loss takes them.

Promise: a window has soft targets where every teacher has one, and row -1 elsewhere, which is the
only mask; whatever does not fit together is refused with the name of the set. Nothing is made up
for a missing row. Letters: N windows, R rows with soft targets, C classes, K top-k, M teachers,
E teacher's feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from antcache.errors import BadConfig, MissingTarget
from antcache.kernels import DenseTargets, Targets, TopKTargets
from antcache.store import SoftTargets
from antcache.windows.target_rows import TargetRows


@dataclass(frozen=True, kw_only=True)
class TeacherTargets:
    """Soft targets of N windows from M teachers, of which R rows have any.

    Attributes:
        targets: as the loss takes them, always with a leading M: (M, R, C), or (M, R, K) with
            their classes and perhaps a tail (M, R).
        row: (N,) int64 row of each window, -1 without one.
        share: (M,) float32, how much each of several teachers counts; None is alike.
        feature: (R, sum of E) float32, the teachers' features side by side, 0 where a row has
            none; None where they are not aligned with.
        has_feature: (R,) bool, rows with a feature of every teacher, or None.
        dims: E of each teacher, empty without features.
    """

    targets: Targets
    row: Tensor
    share: Tensor | None = None
    feature: Tensor | None = None
    has_feature: Tensor | None = None
    dims: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        soft: Mapping[str, SoftTargets],
        where: TargetRows,
        *,
        top_k: int | None = None,
        tail: bool = False,
        features: bool = False,
        share: Sequence[float] | None = None,
        temperatures: Sequence[float] | None = None,
    ) -> TeacherTargets:
        """What M sets say about the windows that were looked up in them.

        Args:
            soft: teacher -> its soft targets of a whole dataset.
            where: the windows' rows in each of them, in that order.
            top_k: keep the k best classes of each teacher.
            tail: keep the mass of the other classes, where the form has it.
            features: take the teachers' features too.
            share: how much each teacher counts, of several.
            temperatures: what each teacher's logits are divided by.

        Raises:
            BadConfig: `top_k` does not fit the targets, or their forms do not fit each other.
            MissingTarget: features are asked for, and a set has none.
        """
        chosen = where.rows[:, where.has]
        forms = []
        for i, (name, targets) in enumerate(soft.items()):
            own = _rows(targets, chosen[i])
            if temperatures is not None and temperatures[i] != 1:
                own = _tempered(name, own, temperatures[i], tail=tail and top_k is None)
            forms.append(own if top_k is None else _cut(name, own, top_k))
        feature, has_feature, dims = None, None, ()
        if features:
            parts = [
                _feature(name, targets)[rows]
                for (name, targets), rows in zip(soft.items(), chosen, strict=True)
            ]
            dims = tuple(part.shape[1] for part in parts)
            joined = torch.from_numpy(np.concatenate(parts, axis=1))
            has_feature = joined.isfinite().all(dim=1)
            feature = joined.where(has_feature[:, None], 0)
        row = np.where(where.has, np.cumsum(where.has) - 1, -1)
        return cls(
            targets=_stacked(tuple(soft), forms, tail=tail),
            row=torch.from_numpy(row),
            share=None if share is None else torch.tensor(share, dtype=torch.float32),
            feature=feature,
            has_feature=has_feature,
            dims=dims,
        )

    @property
    def num_teachers(self) -> int:
        """M."""
        return self.targets.num_teachers

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        tensors = [*vars(self).values(), *vars(self.targets).values()]
        return sum(t.nbytes for t in tensors if isinstance(t, Tensor))

    def to(self, device: torch.device) -> TeacherTargets:
        """The same on another device."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        targets = self.targets.to(device)
        if device.type == "cuda" and isinstance(targets, DenseTargets):
            targets = DenseTargets(aligned(targets.logits), valid=targets.valid)
        return replace(
            self,
            targets=targets,
            row=self.row.to(device),
            share=moved(self.share),
            feature=moved(self.feature),
            has_feature=moved(self.has_feature),
        )

    def each_teacher(self) -> list[Targets]:
        """The targets of each teacher by itself: views, no copies."""
        if isinstance(self.targets, DenseTargets):
            return [DenseTargets(logits=logits[None]) for logits in self.targets.logits]
        tails = [None] * self.num_teachers if self.targets.tail is None else self.targets.tail
        return [
            TopKTargets(
                index=index[None], logit=logit[None], tail=None if tail is None else tail[None]
            )
            for index, logit, tail in zip(
                self.targets.index, self.targets.logit, tails, strict=True
            )
        ]


ALIGNED = 16
"""Columns that a GPU moves at once, of any type that logits have."""


def aligned(logits: Tensor) -> Tensor:
    """The same logits (M, R, C), each row at a multiple of `ALIGNED`, so that it is read faster."""
    classes = logits.shape[2]
    columns = -classes % ALIGNED
    return F.pad(logits, (0, columns))[..., :classes] if columns else logits


def stored_shares(
    name: str, joint: SoftTargets, members: Sequence[str]
) -> tuple[list[float], list[float]]:
    """Weights and temperatures of the ensemble `name`, in the order of `members`.

    They are those learned on the whole training split, without the ensemble's class balance (the
    joint targets themselves have it, and mix each training segment by a mixture that was learned
    without its video).

    Raises:
        BadConfig: it is no ensemble of these members, or none of fixed weights.
    """
    about: dict[str, Any] = joint.attributes
    theirs, weights = about.get("members", []), about.get("weights", [])
    where = f"targets/{name}"
    if set(theirs) != set(members) or len(weights) != len(theirs):
        raise BadConfig(
            "target_weights names no ensemble of these soft targets",
            where=where,
            expected=f"joint targets of {', '.join(members)}",
            found=f"joint targets of {', '.join(theirs)}" if theirs else "no ensemble",
        )
    if about.get("mix") == "attention":
        raise BadConfig(
            "this ensemble has no fixed weights",
            where=where,
            found="weights that differ by segment (mix: attention)",
            hint=f"distil from the joint targets themselves: `targets` {name}",
        )
    temperatures = about.get("temperatures", [1.0] * len(theirs))
    place = [theirs.index(member) for member in members]
    return [float(weights[i]) for i in place], [float(temperatures[i]) for i in place]


def _rows(soft: SoftTargets, rows: NDArray[np.int64]) -> SoftTargets:
    own = soft.arrays()
    arrays = {name: own[name][rows] for name in own.keys() - {"feature", "moment"}}
    return SoftTargets(**arrays, attributes=soft.attributes)


def _feature(name: str, soft: SoftTargets) -> NDArray[np.float32]:
    if soft.feature is None:
        raise MissingTarget(
            "the soft targets keep no feature of their teacher to align with",
            where=f"targets/{name}",
            expected="an array `feature` (N, E)",
            hint="write them with a teacher that keeps it, or leave `align` out",
        )
    return soft.feature


def _tempered(name: str, soft: SoftTargets, temperature: float, *, tail: bool) -> SoftTargets:
    """`soft` with its logits divided by a temperature."""
    if soft.logits is not None:
        return replace(soft, logits=soft.logits / np.float32(temperature))
    if tail:
        raise BadConfig(
            "an ensemble's temperature can't be applied to a stored tail",
            where=f"targets/{name}",
            hint="write dense soft targets, or leave `tail` out",
        )
    assert soft.logit is not None
    return replace(soft, logit=soft.logit / np.float32(temperature))


def _cut(name: str, soft: SoftTargets, top_k: int) -> SoftTargets:
    """`soft` with its k best classes; targets stored with exactly k are taken as they are."""
    if soft.index is None:
        return soft.top_k(top_k)
    stored = soft.index.shape[1]
    if stored != top_k:
        raise BadConfig(
            "the soft targets are stored with another k",
            where=f"targets/{name}",
            expected=f"{top_k}",
            found=f"{stored}",
            hint="write dense soft targets, or leave `top_k` out",
        )
    return soft


def _stacked(names: Sequence[str], forms: Sequence[SoftTargets], *, tail: bool) -> Targets:
    """The kernel's form of M teachers, with a leading M."""
    widths = [0 if f.index is None else f.index.shape[1] for f in forms]
    if len(set(widths)) > 1:
        raise BadConfig(
            "soft targets of different forms can't be used side by side",
            found=", ".join(
                f"{name}: {f'top {k}' if k else 'dense'}"
                for name, k in zip(names, widths, strict=True)
            ),
            hint="write all of them dense, or cut dense ones to the stored k: `top_k`",
        )

    def joined(array: str) -> Tensor:
        if len(forms) == 1:  # a view: the targets of a dataset may be large
            return torch.from_numpy(getattr(forms[0], array)).unsqueeze(0)
        return torch.from_numpy(np.stack([getattr(form, array) for form in forms]))

    if not widths[0]:
        return DenseTargets(logits=joined("logits"))
    return TopKTargets(
        index=joined("index"), logit=joined("logit"), tail=joined("tail") if tail else None
    )
