"""One picklable call that makes one video's rows, for whatever runs such calls, and wherever.

Promise: what `extract` would store of the video is stored, by a process that knows nothing but the
arguments. A backbone is loaded once in a process. The call may be repeated: a video that is there
is left as it is. Nothing is entered into the ledger; whoever calls hears of what can't be read.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from antcache.errors import AlreadyExists, BadConfig, WriteFailed
from antcache.extract.backbone import Backbone, load_backbone
from antcache.extract.config import ExtractConfig
from antcache.extract.engines.video import PendingRows, Published, RowMaker
from antcache.extract.own import TriedBackbone
from antcache.extract.plan import AnyBackbone, RowRecipe, WindowTimes
from antcache.extract.prefetch import prefetch
from antcache.extract.videos.changed import require_unchanged
from antcache.extract.videos.decode import source_of
from antcache.extract.videos.source import StateOnDisk, VideoSource, file_name
from antcache.store import Store
from antcache.store.format import video_name

BATCHES_AHEAD = 2
"""Batches that wait for the backbone, while more is decoded."""


def extract_video(
    video: str | Path | VideoSource,
    store_url: str | Path,
    *,
    backbone: str | Path | AnyBackbone,
    config: ExtractConfig | None = None,
    name: str | None = None,
    windows: WindowTimes | None = None,
    device: str = "auto",
) -> Published | None:
    """Write the features of one video into a stream of a store, which exists.

    Args:
        video: a file, or another source.
        store_url: a folder, or a URL.
        backbone: as of `load_backbone`, or what that gives.
        config: settings of the stream, which is made if it is not there.
        name: what the store is to call the video; None: the file's name without its ending.
        windows: where rows are needed, if `config` says at windows: of this video at least. None:
            of the labels in the store.
        device: where a backbone that is named is loaded to.

    Returns:
        What was stored; None if the video was in the stream already.

    Raises:
        UnreadableVideo: the video can't be read.
        WriteFailed: another process is writing it now.
        FingerprintMismatch: the stream was made with other settings, or the video that is in it
            from a file of another size.
        BadConfig: `config` does not suit the backbone, or nothing is wanted of this video.
    """
    config = config or ExtractConfig()
    source = source_of(Path(video) if isinstance(video, str) else video, config.decoder)
    name = video_name(Path(file_name(source.path)).stem) if name is None else name
    store = Store.open(store_url)
    if isinstance(backbone, str | Path):
        backbone = _loaded(str(backbone), device)
    recipe = RowRecipe.of(backbone, config)
    windows = WindowTimes.of(store, config) if windows is None else windows
    if windows is not None and name not in windows.times:
        raise BadConfig("no labelled segment in this video, so nothing to do", where=name)
    stream = store.create_stream(**recipe.stream(None if windows is None else windows.at))
    with store.claim_features(stream.name, name) as ours:
        if store.has_features(stream.name, name):
            require_unchanged(store, stream.name, name, source)
            return None
        try:
            if not ours:
                raise AlreadyExists("another process has claimed it")
            make = RowMaker(recipe=recipe, stream=stream)
            times = None if windows is None else windows.times[name]
            state = StateOnDisk.of(source)
            rows = PendingRows(name, source, make, state=state, times=times)
            items = recipe.pixels.pixels(source, times)
            if isinstance(recipe.backbone, Backbone):  # one's own is called by this thread alone
                items = prefetch(items, BATCHES_AHEAD)
            return rows.publish(store, rows.take(items))
        except AlreadyExists as error:
            if store.has_features(stream.name, name):
                return None
            raise WriteFailed(
                "another process is writing this video now",
                where=f"{store.path}: features/{stream.name}/{name}",
                hint="run it again when it is done",
            ) from error


@lru_cache(maxsize=1)
def _loaded(backbone: str, device: str) -> Backbone | TriedBackbone:
    return load_backbone(backbone, device=device)
