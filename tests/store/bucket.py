"""A bucket of a real S3 server, seen without antcache, and processes that are killed in it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import numpy as np

from antcache.store import Store
from antcache.testing import SEGMENTS, TAXONOMY, soft_targets

BUCKET = "kitchen"
ROWS = np.random.default_rng(5).normal(size=(9, 8)).astype(np.float16)


class S3:
    """The server, seen without antcache; its options are fsspec's, here and in child processes."""

    _kept: ClassVar[dict[str, dict[str, bytes]]] = {}

    def __init__(self, options: dict[str, Any]) -> None:
        import s3fs

        self.options = options
        self.fs = s3fs.S3FileSystem(use_listings_cache=False, **options)

    def objects(self, url: str) -> dict[str, bytes]:
        """All objects below a URL, by their names relative to it; without a request."""
        start = f"{_key(url)}/"
        return {
            name.removeprefix(start): found.value
            for name, found in _bucket().keys.items()
            if name.startswith(start)
        }

    def put(self, url: str, value: bytes) -> None:
        """An object, without a request."""
        _server().put_object(BUCKET, _key(url), value)

    def store(self, url: str, key: str, write: Callable[[str], Any]) -> Store:
        """The store that `write` makes, at `url`; under one key it is made once in a process."""
        if key not in self._kept:
            write(url)
            self._kept[key] = self.objects(url)
        else:
            for name, value in self._kept[key].items():
                self.put(f"{url}/{name}", value)
        return Store.open(url)

    def age(self, url: str, name: str, seconds: float) -> None:
        """Let an object be older by the server's clock."""
        _bucket().keys[f"{_key(url)}/{name}"].last_modified -= timedelta(seconds=seconds)


def _server() -> Any:
    from moto.s3.models import s3_backends

    return s3_backends["123456789012"]["aws"]


def _bucket() -> Any:
    return _server().buckets[BUCKET]


def _key(url: str) -> str:
    return url.removeprefix(f"s3://{BUCKET}/")


def in_child(action: Callable[[], Any]) -> int:
    """Call `action` in a forked process: the number of its signal, negative, or its result."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = action() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(owner: type, name: str, action: Callable[[], Any], *, after: int = 0) -> None:
    """Call `action` in a process that is killed once it comes to the method `name`, `after` so
    many calls of it."""

    def killed() -> None:
        method, calls = getattr(owner, name), []

        def called(*args: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **options)

        setattr(owner, name, called)
        action()

    assert in_child(killed) == -signal.SIGKILL


def fill(store: Store) -> None:
    store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
    store.write_features("rgb", "v1", ROWS, start_s=0.5)
    store.write_features("rgb", "v2", ROWS * 2, times=np.arange(9) ** 2.0)
    store.write_targets("t", soft_targets())


def units(store: Store) -> list[str]:
    return ["labels/train", "features/rgb/v1", "features/rgb/v2", "targets/t"]


def claim_of_another_machine(s3: S3, url: str, video: str) -> str:
    """A claim whose holder can't be asked."""
    name = f".staging/features,rgb,{video}.claim"
    holder = {"owner": "x", "host": "elsewhere", "machine": "y", "pid": 1, "started": "2"}
    s3.fs.pipe_file(f"{url}/{name}", json.dumps(holder).encode())
    return name
