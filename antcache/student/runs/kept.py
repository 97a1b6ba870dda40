"""The student of a finished run, without the store that it was trained on.

Promise: everything comes out of the run's folder, which anybody may have written: what does not
make sense is refused in one line. Weights are those that the run reports.
Letters: B windows, T frames, K tokens of a row, D feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antcache.annotations import Protocol, Taxonomy
from antcache.devices import pick_device
from antcache.errors import BadAnnotations, BadCheckpoint, FingerprintMismatch, NotFound
from antcache.store.format import fingerprint
from antcache.student.config import StudentConfig
from antcache.student.heads.head import ModelShape
from antcache.student.model import Predictor, build_student
from antcache.student.runs.checkpoint import check_shape, latest_checkpoint, load_reported
from antcache.student.runs.place import CHECKPOINTS, CONFIG, read_config
from antcache.student.runs.predicting import read_account


@dataclass(frozen=True, kw_only=True)
class KeptStream:
    """A feature stream as a run remembers it.

    Attributes:
        name: rgb, flow, obj, ...
        fingerprint: of its settings.
        settings: everything that determines its values; empty in runs from before they kept them.
        source: where its rows come from, for people; the backbone's name if `extract` made them.
    """

    name: str
    fingerprint: str
    settings: Mapping[str, Any]
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class KeptStudent:
    """A trained student, ready to be asked.

    Attributes:
        config: its settings.
        protocol: the windows that it was trained on.
        taxonomy: its classes.
        streams: what its features are, in the order in which they lie side by side.
        shape: what it fits.
        predictor: call it with features (B, T, D) or (B, T, K, D) to get a `HeadOutput`.
    """

    config: StudentConfig
    protocol: Protocol
    taxonomy: Taxonomy
    streams: tuple[KeptStream, ...]
    shape: ModelShape
    predictor: Predictor

    @classmethod
    def load(
        cls, place: str | Path, *, device: str | None = None, taxonomy: Taxonomy | None = None
    ) -> KeptStudent:
        """The student of the run in a folder.

        Args:
            place: the folder.
            device: torch device; None takes the run's setting.
            taxonomy: the classes; needed for runs from before they were kept.

        Raises:
            NotFound: there is no run, or it has no checkpoint yet.
            BadCheckpoint: the run can't be read, or nothing says its classes.
            FingerprintMismatch: `taxonomy` has other classes than the run.
            BadConfig: there is no such device.
        """
        folder = Path(place)
        config = read_config(folder)
        account = read_account(folder)
        classes = _classes(account, taxonomy, folder)
        checkpoint = latest_checkpoint(folder / CHECKPOINTS)
        if checkpoint is None:
            raise NotFound("the run has no checkpoint", where=folder, hint="train it to its end")
        shape = account["shape"]
        if shape is None:
            raise BadCheckpoint(
                "the run is from before its model's shape was kept",
                where=folder / CONFIG,
                hint="train it again",
            )
        check_shape(checkpoint, config, shape)
        with torch.random.fork_rng(devices=[]):
            student = build_student(config, shape)
        load_reported(checkpoint, student)
        place_of = pick_device(device or config.runtime.device)
        return cls(
            config=config,
            protocol=account["protocol"],
            taxonomy=classes,
            streams=_streams(account, folder),
            shape=shape,
            predictor=Predictor(student, config.runtime.precision, place_of),
        )


def _classes(account: Mapping[str, Any], given: Taxonomy | None, folder: Path) -> Taxonomy:
    """The classes of a run, which have to be those that its fingerprint names."""
    classes = given
    if "classes" in account:
        try:
            classes = Taxonomy.from_dict(account["classes"])
        except (BadAnnotations, TypeError, AttributeError, ValueError) as error:
            raise BadCheckpoint(
                "the run's classes can't be read", where=folder / CONFIG, found=error
            ) from error
    if classes is None:
        raise BadCheckpoint(
            "the run is from before classes were kept with runs",
            where=folder / CONFIG,
            hint="give the store that it was trained on, for its classes: `labels`",
        )
    for each in (classes, given or classes):
        if each.fingerprint != account["taxonomy"]:
            raise FingerprintMismatch(
                "the run was trained on other classes",
                where=folder,
                expected=account["taxonomy"],
                found=each.fingerprint,
            )
    return classes


def _streams(account: Mapping[str, Any], folder: Path) -> tuple[KeptStream, ...]:
    names, prints = account["stream"].split(","), account["stream fingerprint"].split(",")
    settings = account.get("stream settings", [{}] * len(names))
    sources = account.get("stream sources", [""] * len(names))
    lists = (names, prints, settings, sources)
    right = all(isinstance(each, list) and len(each) == len(names) for each in lists)
    if not right or not all(
        isinstance(own, dict) and isinstance(source, str)
        for own, source in zip(settings, sources, strict=True)
    ):
        raise BadCheckpoint("the run's streams can't be read", where=folder / CONFIG)
    streams = tuple(
        KeptStream(name=name, fingerprint=own, settings=kept, source=source)
        for name, own, kept, source in zip(*lists, strict=True)
    )
    for stream in streams:
        if stream.settings and fingerprint(stream.settings) != stream.fingerprint:
            raise BadCheckpoint(
                "settings that are not those of the stream's fingerprint",
                where=f"{folder / CONFIG}: stream {stream.name}",
                expected=stream.fingerprint,
                found=fingerprint(stream.settings),
            )
    return streams
