"""A finished run's student by itself: whoever asks it needs the run's folder, and no store.

Promise: the weights are those that the run reports, and what they must be asked with (classes,
windows, streams) is what they were trained with. Nothing of the run is changed. A run may come from
anybody: what its account says is checked before anything is made by it.
Letters: B batch, T frames, D feature.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from antcache.annotations import Protocol
from antcache.annotations.taxonomy import Taxonomy
from antcache.devices import pick_device
from antcache.errors import BadAnnotations, BadCheckpoint, BadConfig, FingerprintMismatch, NotFound
from antcache.store import Stream
from antcache.store.features import TOKEN_FIELDS
from antcache.store.format import fingerprint
from antcache.store.meaning import Senseless, stream_of
from antcache.student.config import StudentConfig
from antcache.student.handing.fetching import MODEL, find_student
from antcache.student.heads.head import ModelShape
from antcache.student.heads.table import check_known
from antcache.student.model import Predictor, Student, build_student
from antcache.student.runs.checkpoint import (
    WEIGHTS,
    check_numbers,
    check_shape,
    load_latest,
    load_reported,
    load_whole,
)
from antcache.student.runs.place import CHECKPOINTS, CONFIG, read_config
from antcache.untrusted import read_json

CLASSES, SOURCES, SETTINGS = "classes", "stream sources", "stream settings"
"""Keys of a run's account that runs from before this version lack."""
OF_STREAM = ("dim", "dtype", "fps", *TOKEN_FIELDS)
"""Settings of a stream that are fields of its own; the others are its `config`."""


@dataclass(frozen=True, kw_only=True)
class KeptStream:
    """A stream that a student was trained on.

    Attributes:
        name: rgb, flow, obj, ...
        fingerprint: hash of the settings.
        settings: everything that determines its values; see `Stream.settings`.
        source: where its rows came from: the backbone's name; empty if the run did not keep it.
    """

    name: str
    fingerprint: str
    settings: Mapping[str, Any]
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class KeptStudent:
    """A student, and what it must be asked with.

    Attributes:
        config: settings of the run.
        protocol: the windows that it was trained on.
        taxonomy: its classes.
        streams: whose rows lie side by side in a window's features.
        shape: of the model.
        predictor: takes features (B, T, D) and gives a `HeadOutput`.
    """

    config: StudentConfig
    protocol: Protocol
    taxonomy: Taxonomy
    streams: tuple[KeptStream, ...]
    shape: ModelShape
    predictor: Predictor = field(repr=False)

    @classmethod
    def load(
        cls, place: str | Path, *, device: str | None = None, taxonomy: Taxonomy | None = None
    ) -> KeptStudent:
        """The student of the run in the folder `place`, or one that was handed on.

        Args:
            place: folder of the run, folder that `antcache student export` wrote, or hub id.
            device: torch device; None takes the run's setting.
            taxonomy: its classes, for a run that did not keep them.

        Raises:
            NotFound: there is no run, or it has no checkpoint yet; or no such student on the hub,
                or the hub can't be reached.
            BadCheckpoint: the run can't be read, or is from a version that did not keep what is
                needed without a store.
            BadConfig: its head is not known here.
            FingerprintMismatch: `taxonomy` is another than that of the run.
            MissingExtra: it is on the hub, and huggingface_hub is not installed.
        """
        place = find_student(place)
        config = read_config(place)
        account = read_account(place)
        classes = _classes(place, account, taxonomy)
        streams = _streams(place, account)
        if account["shape"] is None:
            raise _too_old(place, "the shape of its model")
        _check_fits(place, account, config, classes, streams)
        predictor = load_predictor(place, config, account["shape"], device)
        return cls(
            config=config,
            protocol=account["protocol"],
            taxonomy=classes,
            streams=streams,
            shape=account["shape"],
            predictor=predictor,
        )


def load_predictor(
    run_dir: Path, config: StudentConfig, shape: ModelShape, device: str | None
) -> Predictor:
    """The student with the weights that the run reports, or of the one file of an exported folder.

    Raises:
        NotFound: it has no checkpoint yet.
        BadConfig: its head is not known here.
        BadCheckpoint: the checkpoint is damaged, of another model, or holds what is no number.
    """
    check_known(config.model.head, run_dir / CONFIG)
    exported = os.path.lexists(run_dir / MODEL)

    def load(place: Path) -> Student:
        check_shape(place, config, shape, name=MODEL if exported else WEIGHTS)
        with torch.random.fork_rng(devices=[]):
            student = build_student(config, shape)
        if exported:
            load_whole(place / MODEL, student)
        else:
            load_reported(place, student)
        check_numbers(place / MODEL if exported else place, student.state_dict())
        return student

    student = load(run_dir) if exported else load_latest(run_dir / CHECKPOINTS, load)
    if student is None:
        raise NotFound("the run has no checkpoint", where=run_dir, hint="train it to its end")
    where = pick_device(device or config.runtime.device)
    return Predictor(student, config.runtime.precision, where)


def read_account(run_dir: Path) -> dict[str, Any]:
    """What `config.json` says about a run, `protocol` and `shape` (or None) as what they are.

    Raises:
        BadCheckpoint: it can't be read.
    """
    file = run_dir / CONFIG
    try:
        account = read_json(file)
        kinds = {"protocol": dict, "stream": str, "stream fingerprint": str, "taxonomy": str}
        missing = [name for name, kind in kinds.items() if not isinstance(account.get(name), kind)]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        shape = None if "shape" not in account else ModelShape.from_dict(account["shape"])
        return {**account, "protocol": Protocol(**account["protocol"]), "shape": shape}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadCheckpoint("the run's account can't be read", where=file, found=error) from error


def _classes(run_dir: Path, account: Mapping[str, Any], given: Taxonomy | None) -> Taxonomy:
    """The classes that the run kept, or those given; they are those of its fingerprint."""
    if given is None and CLASSES not in account:
        raise _too_old(run_dir, "its classes")
    if given is None:
        try:
            kept = Taxonomy.from_dict(account[CLASSES])
            if kept.fingerprint != account["taxonomy"]:
                raise ValueError("not the classes that it was trained on")
        except (BadAnnotations, ValueError, TypeError, AttributeError) as error:
            file = run_dir / CONFIG
            raise BadCheckpoint(
                "the run's classes make no sense", where=file, found=error
            ) from error
        return kept
    if given.fingerprint != account["taxonomy"]:
        raise FingerprintMismatch(
            "the run was trained on another taxonomy",
            where=run_dir,
            expected=account["taxonomy"],
            found=given.fingerprint,
        )
    return given


def _streams(run_dir: Path, account: Mapping[str, Any]) -> tuple[KeptStream, ...]:
    """The streams that the run was trained on, in the order of its features."""
    if SETTINGS not in account:
        raise _too_old(run_dir, "the settings of its streams")
    names = account["stream"].split(",")
    prints = account["stream fingerprint"].split(",")
    settings, sources = account[SETTINGS], account.get(SOURCES, [""] * len(names))
    lists = isinstance(settings, list) and isinstance(sources, list)
    if (
        not lists
        or not len(names) == len(prints) == len(settings) == len(sources)
        or not all(isinstance(one, dict) for one in settings)
        or not all(isinstance(one, str) for one in sources)
        or [fingerprint(one) for one in settings] != prints
    ):
        raise BadCheckpoint(
            "the run's streams make no sense",
            where=run_dir / CONFIG,
            expected="of each stream a name, its settings and the fingerprint of these",
        )
    return tuple(
        KeptStream(name=name, fingerprint=mark, settings=one, source=source)
        for name, mark, one, source in zip(names, prints, settings, sources, strict=True)
    )


def _check_fits(
    run_dir: Path,
    account: Mapping[str, Any],
    config: StudentConfig,
    taxonomy: Taxonomy,
    streams: tuple[KeptStream, ...],
) -> None:
    """Check that the model is one for the classes, windows and streams that the account names.

    Weights alone don't tell: most heads have the same for windows of any length.

    Raises:
        BadCheckpoint: it is not.
    """
    where = run_dir / CONFIG
    try:
        found = [_stream_of(stream, where) for stream in streams]
        taught = len(config.distillation.targets)
        fitting = ModelShape.of(taxonomy, found, account["protocol"], num_teachers=taught)
    except (Senseless, BadConfig) as error:
        raise BadCheckpoint("the run's streams make no sense", where=where, found=error) from error
    kept: ModelShape = account["shape"]
    differing = [
        name
        for name, value in vars(fitting).items()
        if name != "teacher_dims" and value != getattr(kept, name)
    ]
    if differing:
        raise BadCheckpoint(
            "the model is not of the shape of what it was trained on",
            where=where,
            expected=", ".join(f"{name} {getattr(fitting, name)!s:.60}" for name in differing),
            found=", ".join(f"{name} {getattr(kept, name)!s:.60}" for name in differing),
        )


def _stream_of(kept: KeptStream, where: Path) -> Stream:
    """A kept stream as a store has it."""
    own = {name: kept.settings[name] for name in OF_STREAM if name in kept.settings}
    others = {name: value for name, value in kept.settings.items() if name not in OF_STREAM}
    about = {"source": kept.source, "compressed": False, "fingerprint": kept.fingerprint}
    return stream_of(kept.name, {**own, **about, "config": others}, str(where))


def _too_old(run_dir: Path, what: str) -> BadCheckpoint:
    return BadCheckpoint(
        f"the run is from a version that did not keep {what}",
        where=run_dir / CONFIG,
        hint="train it again, or ask it over its store: antcache student predict",
    )
