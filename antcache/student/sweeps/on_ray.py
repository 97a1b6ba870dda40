"""A sweep's members on the machines of a Ray cluster: one per GPU, or per CPU.

Promise: each member is trained as one process alone trains it, in its own folder, once. Each worker
reads the windows once. A member whose node is lost goes on from its checkpoint elsewhere. Store and
runs lie where every machine finds them under the same names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from antcache.cluster import connected, resource, spread
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.sweeps.begun import Member
from antcache.student.sweeps.run import Training, read_data, train_members


class MemberWorker:
    """Has the windows, and trains members one by one; see `cluster.spread`."""

    def __init__(self, home: Path, store: Store, folder: Path, members: Sequence[Member]) -> None:
        self._home, self._members = home, members
        self._store, self._folder = store, folder

    def ready(self) -> None:
        """Read the windows."""
        if self._home.is_dir():  # else only whole paths mean the same here
            os.chdir(self._home)
        self._loaded = read_data(self._store, self._members, silent)

    def do(self, name: str, config: StudentConfig) -> dict[str, str]:
        """Train a member; its error, by name, if its loss is not finite."""
        return train_members(self._store, self._folder, [(name, config)], self._loaded, silent)


def on_ray(address: str | None = None) -> Training:
    """What `sweep` takes to train its members on a Ray cluster; see `cluster.connected`.

    Raises, when it trains:
        MissingExtra: Ray is not installed.
        BadConfig: there is no such cluster.
        WriteFailed: workers were lost with the same member again and again.
    """
    return partial(_train, address)


def _train(
    address: str | None,
    store: Store,
    folder: Path,
    members: Sequence[Member],
    progress: Progress,
) -> dict[str, str]:
    """Train members; the errors of those whose loss is not finite, by name."""
    failed: dict[str, str] = {}
    with connected(address) as ray:
        on_cpu = members[0][1].runtime.device.startswith("cpu")
        gpus = 0 if on_cpu else int(resource(ray, "GPU"))
        options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": 1}
        done = spread(
            ray,
            MemberWorker,
            [Path.cwd(), store, folder, list(members)],
            {name: (config,) for name, config in members},
            workers=gpus or max(1, int(resource(ray, "CPU"))),
            options=options,
        )
        progress("members", 0, len(members))
        with closing(done):
            for number, (_, errors) in enumerate(done, start=1):
                failed |= errors
                progress("members", number, len(members))
    return failed
