"""The backbone of a run's stream, set up as it was when its rows were made.

Promise: rows are made by the settings that are kept with the run, all of them; a backbone whose
rows would be others is refused, with the difference. A backbone of one's own is code, and is loaded
because somebody names it, never because a run does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antcache.errors import (
    BadCheckpoint,
    BadConfig,
    FingerprintMismatch,
    UnknownBackbone,
)
from antcache.extract.backbone import load_backbone
from antcache.extract.config import ExtractConfig
from antcache.extract.engines.video import RowMaker
from antcache.extract.own import FACTORY
from antcache.extract.plan import AnyBackbone, Loaded, RowRecipe
from antcache.store import Stream
from antcache.store.format import CONVERTED_FROM, difference, fingerprint
from antcache.student.runs.kept import KeptStream

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
"""A model on the hub, with its owner or without."""

MADE_BY_US = ("family", "weights", "fingerprint")
"""Settings of a stream, of which one that `extract` made has one at least."""


def row_maker(
    kept: KeptStream,
    backbone: str | Path | AnyBackbone | None = None,
    *,
    device: str = "auto",
    max_gap_s: float = 2.0,
    allow_partial: bool = False,
    where: object = "",
) -> RowMaker:
    """What makes rows of videos as those of a run's stream were made.

    Args:
        kept: the stream, as it is kept with the run.
        backbone: as of `load_backbone`, or what that gives; None: the one that the run names.
        device: where a backbone that is named is loaded to.
        max_gap_s: how far apart two frames of a video may be, in seconds.
        allow_partial: accept videos that end before the end that they state.
        where: the run, for messages.

    Raises:
        UnknownBackbone: the backbone is not here.
        FingerprintMismatch: its rows are others than those that the run was trained on.
        BadConfig: the rows are none that a backbone makes of a video, or none is named.
        BadCheckpoint: the run's account of its stream makes no sense.
    """
    settings = kept.settings
    _check_made_here(kept, where)
    if backbone is None:
        loaded: AnyBackbone = _named_by_run(kept, device, where)
    else:
        named = isinstance(backbone, str | Path)
        loaded = load_backbone(backbone, device=device) if named else backbone  # type: ignore[arg-type, assignment]
    try:
        config, at = _config(settings, max_gap_s=max_gap_s, allow_partial=allow_partial)
    except (BadConfig, KeyError, TypeError, ValueError) as error:
        raise BadCheckpoint(
            "the run's account of its stream makes no sense", where=where, found=error
        ) from error
    if isinstance(loaded, Loaded):
        _check_same(settings, _own_settings(loaded, settings), where)
    recipe = RowRecipe.of(loaded, config)
    stream = Stream(**recipe.stream(at))
    _check_same(settings, stream.settings, where)
    return RowMaker(recipe=recipe, stream=stream)


def _check_made_here(kept: KeptStream, where: object) -> None:
    settings = kept.settings
    if fingerprint(settings) != kept.fingerprint:
        raise BadCheckpoint(
            "the run's settings of its stream are not those of its fingerprint",
            where=f"{where}: stream {kept.name}",
            expected=kept.fingerprint,
            found=fingerprint(settings),
        )
    if settings.get(CONVERTED_FROM) is not None:
        raise BadConfig(
            "rows of a converted stream are not made of videos",
            where=f"{where}: stream {kept.name}",
            expected="a run on a stream as antcache extract writes it",
            hint="extract with the grid and type that it was converted to, and train on that",
        )
    if "decoding" not in settings or not any(name in settings for name in MADE_BY_US):
        raise BadConfig(
            "the run's features were made by others: nobody here knows how",
            where=f"{where}: stream {kept.name}",
            expected="a run on a stream of antcache extract",
        )


def _named_by_run(kept: KeptStream, device: str, where: object) -> Loaded:
    """The backbone that the run's account names, which anybody may have written."""
    name = kept.source
    place = f"{where}: stream {kept.name}"
    if not name:
        raise BadConfig("the run does not say which backbone it is of", where=place, hint=GIVE)
    folder = Path(name).is_dir()
    if FACTORY.fullmatch(name) and not folder:
        raise BadConfig(
            "a backbone of one's own is loaded only if it is named",
            where=place,
            found=name,
            hint=GIVE,
        )
    if not folder and not HUB_ID.fullmatch(name):
        raise UnknownBackbone("the run's backbone is not here", where=place, found=name, hint=GIVE)
    try:
        return load_backbone(name, device=device)
    except UnknownBackbone as error:
        if folder:
            raise
        raise UnknownBackbone(
            "the run's backbone is not here", where=place, found=str(error), hint=GIVE
        ) from error


GIVE = "give the hub id or folder: `backbone`"


def _config(
    settings: Mapping[str, Any], *, max_gap_s: float, allow_partial: bool
) -> tuple[ExtractConfig, dict[str, list[float]] | None]:
    """Settings of the pass that made a stream, and where its rows are, unless at a uniform rate."""
    grid, clip, at = (settings.get(name) for name in ("grid", "clip", "at"))
    given: dict[str, Any] = {} if clip is None else {"clip_fps": clip["fps"]}
    if at is None:
        given["fps"] = settings["fps"]
    else:
        given |= {"at": "windows", "gaps": tuple(at["gaps"]), "anchors": tuple(at["anchors"])}
    if grid is not None:
        given |= {"tokens": tuple(grid), "future": tuple(settings.get("future") or ())}
    config = ExtractConfig(
        dtype=settings["dtype"], max_gap_s=max_gap_s, allow_partial=allow_partial, **given
    )
    return config, at


def _own_settings(backbone: Loaded, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A stream's settings, with those of this backbone in place of its own."""
    own = dict(backbone.config)
    if settings.get("grid") is not None:
        own["pooling"] = "tokens"
    frames = backbone.num_frames
    clip = settings.get("clip") if isinstance(settings.get("clip"), dict) else None
    if frames > 1 and (clip or {}).get("frames") != frames:
        own["clip"] = {"frames": frames, "fps": (clip or {}).get("fps")}
    elif frames == 1:
        own["clip"] = None
    return {**{k: v for k, v in settings.items() if k not in BACKBONES}, **own}


BACKBONES = ("family", "model", "weights", "pooling", "preprocessing", "fingerprint")
"""Settings of a stream that a backbone brings."""


def _check_same(kept: Mapping[str, Any], found: Mapping[str, Any], where: object) -> None:
    if fingerprint(kept) == fingerprint(found):
        return
    raise FingerprintMismatch(
        "this backbone makes other rows than those that the run was trained on",
        where=where,
        found=difference(kept, found),
        hint="the run's values stand first",
    )
