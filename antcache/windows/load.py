"""Windows of a split straight from a store: rows, labels, and soft targets if they are asked for.

Promise: nothing is read but labels and soft targets until a window is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from antcache.annotations import Protocol
from antcache.checks import distinct
from antcache.errors import BadConfig
from antcache.store import Store
from antcache.windows.ahead import refuse_future
from antcache.windows.dataset import Windows
from antcache.windows.reading.lazy import LazyFeatures
from antcache.windows.split import split_windows
from antcache.windows.target_rows import TargetRows
from antcache.windows.teacher_targets import TeacherTargets


def load_windows(
    store: Store,
    split: str,
    streams: Sequence[str] = (),
    *,
    protocol: Protocol,
    targets: Sequence[str] = (),
    top_k: int | None = None,
    tail: bool = False,
    allow_missing: bool = False,
    allow_future: bool = False,
) -> Windows:
    """See `antcache.Store.windows`."""
    distinct("stream", streams)
    distinct("targets", targets)
    for name, idle in (("top_k", top_k is None), ("tail", not tail)):
        if not targets and not idle:
            raise BadConfig(f"`{name}` has no effect without soft targets", hint="name `targets`")
    chosen = [store.stream(name) for name in streams or (store.only_stream(),)]
    refuse_future(chosen, allowed=allow_future)
    found = split_windows(
        store,
        chosen,
        split,
        store.labels(split),
        protocol,
        allow_missing=allow_missing,
    )
    taught = None
    if targets:
        soft = {name: store.targets(name) for name in targets}
        where = TargetRows.of([(s.uid, s.valid) for s in soft.values()], found.labels.uid)
        taught = TeacherTargets.of(soft, where, top_k=top_k, tail=tail)
    features = LazyFeatures.of(found.streams, torch.device("cpu"))
    return Windows(found.labels, features, taught)
