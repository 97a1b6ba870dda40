"""Weights that others have trained, kept as a student is handed on, so that it can be asked.

Promise: classes, windows and streams are those of a store, and the weights are compared with the
student that its settings make before room is made for it. No figure comes with them, and none is
made up. The folder appears whole or not at all.
Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from antcache import __version__
from antcache.errors import BadCheckpoint
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.handing.card import UNKNOWN, check_license
from antcache.student.handing.exporting import ORIGIN, ExportReport, write_folder
from antcache.student.handing.fetching import check_vacant
from antcache.student.heads.head import ModelShape
from antcache.student.model import build_student
from antcache.student.runs.checkpoint import check_numbers, compare_shapes
from antcache.windows.ahead import refuse_future


def bring_student(
    store: Store,
    out: Path,
    config: StudentConfig,
    weights: Mapping[str, NDArray[Any]],
    *,
    where: str | Path,
    origin: str,
    classes: Mapping[str, int],
    dims: int,
    license: str = UNKNOWN,
) -> ExportReport:
    """Write weights as a student for the classes, windows and streams of `store`.

    Args:
        store: which classes there are, and what the features are.
        out: the new folder.
        config: settings of the student, its streams and windows among them.
        weights: float32 arrays under the names of such a student's.
        where: the file that they come from, for errors.
        origin: what they are, in words, for the card.
        classes: how many classes of each kind they tell apart.
        dims: width of the features that they read.
        license: of the weights; see `exporting.export_student`.

    Raises:
        AlreadyExists: something is at `out`.
        MissingKey: the store lacks a stream.
        BadConfig: a stream is not named, or has seen the future.
        BadCheckpoint: the weights are for other classes or features, for another student, or not
            finite.
        WriteFailed: the disk refused; nothing is there.
    """
    check_license(license)
    check_vacant(out)
    taxonomy = store.taxonomy
    streams = [store.stream(name) for name in config.data.stream or (store.only_stream(),)]
    refuse_future(streams, allowed=config.data.allow_future)
    protocol = config.window.over(store.protocol)
    for kind, count in classes.items():
        there = len(getattr(taxonomy, f"{kind}s"))
        if there != count:
            raise BadCheckpoint(
                f"weights for another number of {kind}s than the store has",
                where=where,
                expected=there,
                found=count,
            )
    shape = ModelShape.of(taxonomy, streams, protocol)
    if shape.dim != dims or shape.tokens != 1:
        raise BadCheckpoint(
            "weights for other features than the store has",
            where=where,
            expected=f"rows {shape.dim} wide" + (f" of {shape.tokens} tokens" * (shape.tokens > 1)),
            found=f"weights for {dims}",
        )
    with torch.device("meta"):
        compare_shapes(Path(where), build_student(config, shape).state_dict(), weights)
    with torch.random.fork_rng(devices=[]):
        student = build_student(config, shape)
    student.load_state_dict({name: torch.tensor(each) for name, each in weights.items()})
    check_numbers(Path(where), student.state_dict())
    account: dict[str, Any] = {
        "version": __version__,
        ORIGIN: origin,
        "student": config.to_dict(),
        "stream": ",".join(stream.name for stream in streams),
        "stream settings": [stream.settings for stream in streams],
        "stream sources": [stream.source for stream in streams],
        "classes": taxonomy.to_dict(),
        "protocol": vars(protocol),
        "shape": asdict(shape),
        "taxonomy": taxonomy.fingerprint,
        "stream fingerprint": ",".join(stream.fingerprint for stream in streams),
    }
    return write_folder(
        out,
        student,
        account,
        {},
        config=config,
        protocol=protocol,
        taxonomy=taxonomy,
        shape=shape,
        license=license,
    )
