"""A trained student asked again: for other segments, or for earlier windows.

Promise: the weights are those that the run reports; store, classes and features are those that it
was trained on, or an error says what differs. Nothing of the run is changed.
Letters: N segments, T frames, D feature.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antcache.annotations import Protocol, Segments
from antcache.devices import pick_device
from antcache.errors import BadCheckpoint, BadConfig, FingerprintMismatch, NotFinite, NotFound
from antcache.evaluation.predictions import Predictions
from antcache.store import Store, Stream
from antcache.student.checkpoint import check_sizes, latest_checkpoint, load_reported
from antcache.student.config import StudentConfig
from antcache.student.head import Sizes
from antcache.student.loop import SCORING_BATCH
from antcache.student.model import Predictor, build_student
from antcache.student.pack import StreamWindows
from antcache.student.runs import CHECKPOINTS, CONFIG, read_config
from antcache.student.stream import JoinedStream
from antcache.student.windows import WindowIndex, join, stream_features
from antcache.untrusted import read_json


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
        account = _account(run_dir)
        taxonomy = store.taxonomy
        self.streams: list[Stream] = [store.stream(name) for name in account["stream"].split(",")]
        self.protocol: Protocol = account["protocol"]
        for what, found in (
            ("taxonomy", taxonomy.fingerprint),
            ("stream fingerprint", ",".join(stream.fingerprint for stream in self.streams)),
        ):
            if account[what] != found:
                raise FingerprintMismatch(
                    f"the run was trained on another {what.removesuffix(' fingerprint')}",
                    where=run_dir,
                    expected=account[what],
                    found=found,
                )
        self.device = pick_device(device or self.config.runtime.device)
        checkpoint = latest_checkpoint(run_dir / CHECKPOINTS)
        if checkpoint is None:
            raise NotFound("the run has no checkpoint", where=run_dir, hint="train it to its end")
        dims: tuple[int, ...] = ()
        if self.config.distillation.align != "none":
            kept = [store.targets(name).feature for name in self.config.distillation.targets]
            dims = tuple(f.shape[1] for f in kept if f is not None)
        sizes = Sizes(
            dims=tuple(stream.dim for stream in self.streams),
            num_classes=len(taxonomy.actions),
            num_frames=self.protocol.num_frames,
            steps_ahead=math.ceil(round(self.protocol.gap_s * self.protocol.rate, 6)),
            num_verbs=len(taxonomy.verbs),
            num_nouns=len(taxonomy.nouns),
            num_teachers=len(self.config.distillation.targets),
            teacher_dims=dims,
        )
        check_sizes(checkpoint, self.config, sizes)
        with torch.random.fork_rng(devices=[]):
            student = build_student(self.config, sizes)
        load_reported(checkpoint, student)
        self.predictor = Predictor(student, self.config.runtime.precision, self.device)
        self.sizes: Sizes = sizes

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
        parts = self._windows(segments, split)
        windows = JoinedStream.of_streams(parts, device=self.device)
        found: list[list[Tensor]] = []
        for rows, features in windows.batches(torch.arange(len(windows)), SCORING_BATCH):
            self._check_finite("features", features, rows, parts)
            output = self.predictor(features)
            kept = (output.logits, output.verb_logits, output.noun_logits)
            self._check_finite("scores of the student", output.logits, rows, parts)
            found.append([scores.float().cpu() for scores in kept if scores is not None])
        arrays = [torch.cat(columns).numpy() for columns in zip(*found, strict=True)]
        own: dict[str, Any] = {}
        if len(arrays) == 3:
            own = {"verb_scores": arrays[1], "noun_scores": arrays[2]}
        return Predictions(
            uid=windows.uid,
            scores=arrays[0],
            split=split,
            taxonomy=self.store.taxonomy.fingerprint,
            config=self.config.to_dict(),
            **own,
        )

    def _check_finite(
        self, what: str, values: Tensor, rows: Tensor, parts: list[StreamWindows]
    ) -> None:
        """Refuse values (B, ...) of the windows at `rows` (B,) that hold NaN or infinity."""
        bad = ~torch.isfinite(values).flatten(1).all(dim=1)
        if bad.any():
            index = parts[0].index
            row = int(rows[int(bad.to(torch.int8).argmax())])
            streams = ",".join(stream.name for stream in self.streams)
            raise NotFinite(
                f"{what} that are not finite (NaN or infinite)",
                where=f"{self.store.path}: stream {streams}, video {index.video[row]}",
                found=f"segment {index.uid[row]}",
            )

    def _windows(self, segments: Segments, split: str) -> list[StreamWindows]:
        features = {s.name: stream_features(self.store, s.name, segments) for s in self.streams}
        indices = join(
            {
                name: WindowIndex.build(
                    videos,
                    segments,
                    self.protocol,
                    allow_missing=self.allow_missing,
                    where=f"{self.store.path}: features/{name}, split {split}",
                )
                for name, videos in features.items()
            }
        )
        if not len(next(iter(indices.values()))):
            raise BadConfig("no segment has a window", where=f"{self.store.path}, split {split}")
        return [
            StreamWindows(
                features=features[s.name], index=indices[s.name], dim=s.dim, dtype=s.dtype
            )
            for s in self.streams
        ]


def _account(run_dir: Path) -> dict[str, Any]:
    file = run_dir / CONFIG
    try:
        account = read_json(file)
        kinds = {"protocol": dict, "stream": str, "stream fingerprint": str, "taxonomy": str}
        missing = [name for name, kind in kinds.items() if not isinstance(account.get(name), kind)]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        return {**account, "protocol": Protocol(**account["protocol"])}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadCheckpoint("the run's account can't be read", where=file, found=error) from error
