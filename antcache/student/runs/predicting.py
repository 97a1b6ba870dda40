"""A trained student asked again: for other segments, or for earlier windows.

Promise: the weights are those that the run reports; store, classes and features are those that it
was trained on, or an error says what differs. Nothing of the run is changed.
Letters: N segments, T frames, D feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antcache.annotations import Protocol, Segments
from antcache.errors import BadCheckpoint, FingerprintMismatch, NotFinite
from antcache.evaluation.predictions import Predictions
from antcache.store import Store, Stream
from antcache.store.format import difference
from antcache.student.config import StudentConfig
from antcache.student.heads.head import HeadOutput, ModelShape
from antcache.student.runs.kept import load_predictor, read_account
from antcache.student.runs.place import CONFIG, read_config
from antcache.student.scoring import Look, Scores, predict
from antcache.windows.ahead import refuse_future
from antcache.windows.dataset import Windows
from antcache.windows.labels import WindowLabels
from antcache.windows.reading.lazy import LazyFeatures
from antcache.windows.split import split_windows


class TrainedStudent:
    """The student of a finished run, on a store that has its features.

    Args:
        store: with the run's classes and streams.
        run_dir: folder of the run.
        device: torch device; None takes the run's setting.
        allow_missing: leave segments out whose features are missing, even if the run does not.

    Raises:
        NotFound: there is no run, or it has no checkpoint yet.
        BadCheckpoint: the run can't be read.
        FingerprintMismatch: the store has other classes or features than the run was trained on.
        MissingKey: the store lacks a stream.
        BadConfig: a stream has seen the future, and the run does not say that this is allowed; or
            the run's head is not known here.
    """

    def __init__(
        self,
        store: Store,
        run_dir: Path,
        *,
        device: str | None = None,
        allow_missing: bool = False,
    ) -> None:
        self.store = store
        self.config: StudentConfig = read_config(run_dir)
        self.allow_missing: bool = allow_missing or self.config.data.allow_missing
        account = read_account(run_dir)
        taxonomy = store.taxonomy
        self.streams: list[Stream] = [store.stream(name) for name in account["stream"].split(",")]
        refuse_future(self.streams, allowed=self.config.data.allow_future)
        self.protocol: Protocol = account["protocol"]
        for what, found in (
            ("taxonomy", taxonomy.fingerprint),
            ("stream fingerprint", ",".join(stream.fingerprint for stream in self.streams)),
        ):
            if account[what] != found:
                said = "" if what == "taxonomy" else _differing(account, self.streams)
                raise FingerprintMismatch(
                    f"the run was trained on another {what.removesuffix(' fingerprint')}",
                    where=run_dir,
                    expected="" if said else account[what],
                    found=said or found,
                )
        self.shape: ModelShape = self._shape(run_dir, account)
        self.predictor = load_predictor(run_dir, self.config, self.shape, device)
        self.device = self.predictor.device

    def _shape(self, run_dir: Path, account: Mapping[str, Any]) -> ModelShape:
        """The shape that was kept with the run; it has to be that of a student for the store."""
        fitting = ModelShape.of(
            self.store.taxonomy,
            self.streams,
            self.protocol,
            num_teachers=len(self.config.distillation.targets),
        )
        kept: ModelShape | None = account["shape"]
        if kept is None:  # a run from before shapes were kept
            return replace(fitting, teacher_dims=self._teacher_dims())
        if replace(kept, teacher_dims=()) != fitting:
            raise BadCheckpoint(
                "the model is not of the shape of what it was trained on",
                where=run_dir / CONFIG,
                expected=fitting,
                found=kept,
            )
        return kept

    def _teacher_dims(self) -> tuple[int, ...]:
        """Widths of the features that the student is aligned with, from the soft targets."""
        taught = self.config.distillation
        if taught.align == "none":
            return ()
        kept = [self.store.targets(name).feature for name in taught.targets]
        return tuple(f.shape[1] for f in kept if f is not None)

    def predict(self, segments: Segments, *, split: str) -> Predictions:
        """Scores of the segments that have a window, in their order; others are left out.

        Args:
            segments: N, labelled or not.
            split: what the predictions say they are for.

        Raises:
            MissingFeature: features are missing, and neither the run nor the caller allows that.
            BadConfig: no segment has a window.
            NotFinite: features are NaN or infinite, or the student's scores are; names the segment.
        """
        labels, scores = self.ask(segments, split=split)
        return Predictions(
            uid=labels.uid,
            moment=segments[segments.locate(labels.uid)].moments(),
            scores=scores.action,
            verb_scores=scores.verb,
            noun_scores=scores.noun,
            split=split,
            taxonomy=self.store.taxonomy.fingerprint,
            config=self.config.to_dict(),
            anchor=self.protocol.anchor,
            gap_s=self.protocol.gap_s,
        )

    def ask(
        self, segments: Segments, *, split: str, look: Look | None = None
    ) -> tuple[WindowLabels, Scores]:
        """The segments that have a window, in their order, and their scores; see `predict`.

        `look` is called with each batch, in order, once it is known to be finite.
        """
        found = split_windows(
            self.store,
            self.streams,
            split,
            segments,
            self.protocol,
            allow_missing=self.allow_missing,
        )
        windows = Windows(found.labels, LazyFeatures.of(found.streams, self.device))

        def check(rows: Tensor, features: Tensor, output: HeadOutput) -> None:
            self._check_finite("features", features, rows, found.labels)
            for scores in (output.logits, output.later_logits):
                if scores is not None:
                    self._check_finite("scores of the student", scores, rows, found.labels)
            if look is not None:
                look(rows, features, output)

        return found.labels, predict(self.predictor, windows, look=check)

    def _check_finite(self, what: str, values: Tensor, rows: Tensor, labels: WindowLabels) -> None:
        """Refuse values (B, ...) of the windows at `rows` (B,) that hold NaN or infinity."""
        bad = ~torch.isfinite(values).flatten(1).all(dim=1)
        if bad.any():
            row = int(rows[int(bad.to(torch.int8).argmax())])
            streams = ",".join(stream.name for stream in self.streams)
            raise NotFinite(
                f"{what} that are not finite (NaN or infinite)",
                where=f"{self.store.path}: stream {streams}, video {labels.video[row]}",
                found=f"segment {labels.uid[row]}",
            )


def _differing(account: Mapping[str, Any], streams: Sequence[Stream]) -> str:
    """In which settings the streams of a run differ from those of the store; empty where the run is
    from before it kept them."""
    kept = account.get("stream settings")
    if not isinstance(kept, list) or not all(isinstance(one, dict) for one in kept):
        return ""
    pairs = [(s.name, difference(one, s.settings)) for one, s in zip(kept, streams, strict=False)]
    return "; ".join(f"{name}: {text}" for name, text in pairs if text)
