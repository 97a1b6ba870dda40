"""Work that is spread over a Ray cluster: what comes back, and what ends it."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from antcache import cluster
from antcache.cluster import connected, spread
from antcache.errors import (
    AntcacheError,
    BadConfig,
    MissingExtra,
    NotFound,
    Unreachable,
    WriteFailed,
)


class Squarer:
    """Squares numbers; other work ends it, or is refused."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ready(self) -> None:
        if (self._folder / "unready").exists():
            raise NotFound("no model", where="m")
        if (self._folder / "too large").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    def do(self, name: str, number: int) -> tuple[int, int]:
        with (self._folder / name).open("a") as file:
            file.write(".")
        if name == "deadly" or (name == "once" and (self._folder / name).stat().st_size == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "refused":
            raise Unreachable("no way", "s3://there")
        return number**2, os.getpid()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_a_lost_worker_was_at_is_done_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(cluster, "ATTEMPTS", 2)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def done(**items: int) -> dict[str, Any]:
        given = {name: (number,) for name, number in items.items()}
        with connected("auto") as module:
            assert module is ray
            made = spread(ray, Squarer, [tmp_path], given, workers=1, options={"num_cpus": 1})
            return dict(made)

    found = done(a=2, once=3, b=4)
    assert {name: square for name, (square, _) in found.items()} == {"a": 4, "once": 9, "b": 16}
    assert found["a"][1] != found["b"][1] == found["once"][1]  # the second worker
    assert (tmp_path / "once").read_text() == ".."
    assert ray.is_initialized()  # whoever was connected before stays so
    with pytest.raises(WriteFailed, match="deadly: 2 workers were lost with it"):
        done(deadly=1)
    assert (tmp_path / "deadly").read_text() == ".."
    with pytest.raises(Unreachable, match=r"s3://there: can't be reached \(no way") as raised:
        done(refused=1)
    assert type(raised.value) is Unreachable
    assert done() == {}
    (tmp_path / "too large").touch()
    with pytest.raises(WriteFailed, match="2 workers were lost before they were ready"):
        done(a=2)
    (tmp_path / "unready").touch()
    with pytest.raises(NotFound, match="m: no model"):
        done(a=2)


def test_a_worker_that_gives_no_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one is whose node is gone, before Ray has found that out: it isn't waited for."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    made: list[Hired] = []

    class Asked:
        def __init__(self, what: str, worker: Hired) -> None:
            self._asked = what, worker

        def remote(self, *_: Any) -> tuple[str, Hired]:
            return self._asked

    class Hired:
        def __init__(self) -> None:
            made.append(self)

        def __getattr__(self, name: str) -> Asked:
            return Asked(name, self)

    def get(asked: tuple[str, Hired], timeout: float | None = None) -> str:
        what, worker = asked
        if worker is made[0] and what == "do":
            raise ray.exceptions.ActorUnavailableError("gone", None)
        if worker is made[0] and what == "__ray_ready__":
            assert timeout is not None, "waited for without end"
            raise ray.exceptions.GetTimeoutError
        return what

    module = SimpleNamespace(
        exceptions=ray.exceptions,
        wait=lambda asked, **_: (asked[:1], asked[1:]),
        get=get,
        put=lambda each: each,
        kill=(killed := []).append,
        remote=lambda _: SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=lambda *_: Hired())
        ),
    )
    found = dict(spread(module, Squarer, [], {"a": (1,)}, workers=1, options={}))
    assert found == {"a": "do"}
    assert killed == made
    assert len(made) == 2


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, in the words of Ray."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def init(address: str | None = None, **_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease start one.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(BadConfig, match=r"auto: no Ray cluster there: found Could not[^\n]+"),
        connected("auto"),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"antcache\[ray\]"), connected(None):
        pass


@pytest.mark.parametrize(
    "error",
    [
        BadConfig("wrong", where="here", expected=1, found=2, hint="do so"),
        MissingExtra("ray", "ray"),
        Unreachable("gone", "s3://there"),
        WriteFailed.because(OSError(28, "No space left"), "there"),
        NotFound("nothing", where="there"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_from_other_processes_as_they_were(error: AntcacheError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert again.args == error.args


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nobody.invalid:6379"])
def test_nobody_at_an_address_is_said_at_once(address: str, monkeypatch) -> None:
    """Ray itself would try again for minutes."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("asked"))
    with (
        pytest.raises(BadConfig, match=rf"{address}: no Ray cluster there.*nobody answers"),
        connected(address),
    ):
        pass
