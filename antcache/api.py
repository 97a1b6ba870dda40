"""The front door: a store whose windows a training loop of one's own can take.

Promise: windows are those that `antcache student train` learns from, and predictions those that
every command takes. Only this file knows both the store and what is built on it.
Letters: N segments, C actions, V verbs, O nouns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache import store as stored
from antcache.annotations import Protocol
from antcache.errors import BadConfig, MissingKey

if TYPE_CHECKING:
    from antcache.evaluation import Predictions
    from antcache.windows.dataset import Windows


class Store(stored.Store):
    """Labels, features and soft targets of one dataset, and the windows and predictions of them.

    What it is made of is `antcache.store.Store`'s, which needs no torch.
    """

    def windows(
        self,
        split: str,
        *,
        stream: str | Sequence[str] = (),
        targets: Sequence[str] = (),
        protocol: Protocol | None = None,
        top_k: int | None = None,
        tail: bool = False,
        allow_missing: bool = False,
        allow_future: bool = False,
    ) -> Windows:
        """The windows of a split, with their soft targets: a torch `Dataset` that reads lazily.

        Args:
            split: of the labels.
            stream: feature stream, or several whose features lie side by side; none for the
                store's only one.
            targets: soft targets, of one teacher or several.
            protocol: gap, anchor, frames and rate of a window; None for the store's own.
            top_k: keep the k best classes of each teacher.
            tail: with top-k targets, keep the mass of the other classes.
            allow_missing: leave segments out whose features are missing, instead of raising.
            allow_future: take features that have seen what comes after their rows' times.

        Raises:
            MissingKey: the store lacks the split, the stream or the soft targets.
            MissingFeature: features are missing, and that is not allowed.
            BadConfig: the stream is not named or has seen the future, no segment has a window, or
                the soft targets do not fit each other or `top_k`.
        """
        from antcache.windows.load import load_windows

        return load_windows(
            self,
            split,
            (stream,) if isinstance(stream, str) else tuple(stream),
            targets=(targets,) if isinstance(targets, str) else tuple(targets),
            protocol=protocol or self.protocol,
            top_k=top_k,
            tail=tail,
            allow_missing=allow_missing,
            allow_future=allow_future,
        )

    def predictions(
        self,
        split: str,
        uid: ArrayLike,
        scores: Any,
        *,
        verb_scores: Any = None,
        noun_scores: Any = None,
        anchor: float = 0.0,
        gap_s: float | None = None,
        config: dict[str, Any] | None = None,
    ) -> Predictions:
        """Scores of a model for segments of a split, which are saved, evaluated and compared.

        Args:
            split: of the labels.
            uid: (N,) the segments, in the order of the scores; some of the split or all.
            scores: (N, C) array or tensor, as logits or log-probabilities, higher is better.
            verb_scores: (N, V), of a model with a classifier of its own; verbs are else scored by
                the actions that contain them.
            noun_scores: (N, O), likewise; both or neither.
            anchor: what the gap was counted back from: that of the `Protocol` of the windows.
            gap_s: the gap, likewise; None: unknown, and no comparison asks.
            config: JSON-ready account of the model.

        Raises:
            MissingKey: the store lacks the split, or the split a segment.
            BadConfig: shapes do not fit.
        """
        from antcache.evaluation import Predictions

        taxonomy, labels = self.taxonomy, self.labels(split)
        uids = np.asarray(uid, dtype=np.str_)
        rows = labels.locate(uids)
        unknown = uids[rows < 0]
        if len(unknown):
            raise MissingKey(
                f"{len(unknown)} segments are not in the split {split!r}",
                where=self.path,
                found=", ".join(unknown[:5].tolist()),
            )
        if not taxonomy.paired and (verb_scores is not None or noun_scores is not None):
            raise BadConfig(
                "verb and noun scores for actions without verb and noun",
                where=self.path,
                expected="scores of actions alone",
            )
        arrays = {}
        for name, given, classes in (
            ("scores", scores, taxonomy.actions),
            ("verb_scores", verb_scores, taxonomy.verbs),
            ("noun_scores", noun_scores, taxonomy.nouns),
        ):
            if given is None:
                continue
            arrays[name] = array = _float32(given)
            columns = len(classes)
            if array.ndim != 2 or array.shape[1] != columns:
                raise BadConfig(
                    f"{name} do not fit the store's classes",
                    where=self.path,
                    expected=f"({len(uids)}, {columns})",
                    found=array.shape,
                )
        return Predictions(
            uid=uids,
            split=split,
            taxonomy=taxonomy.fingerprint,
            anchor=anchor,
            gap_s=gap_s,
            config=config or {},
            moment=labels[rows].moments(),
            **arrays,
        )


def _float32(scores: Any) -> NDArray[np.float32]:
    """Scores as an array, wherever they lie and whatever gradient they carry."""
    if hasattr(scores, "detach"):
        scores = scores.detach().float().cpu()
    return np.ascontiguousarray(scores, dtype=np.float32)
