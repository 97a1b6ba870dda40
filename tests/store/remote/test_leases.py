"""At a URL one of several processes works on a unit, and another goes on when it is killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from bucket import ROWS, S3, in_child

from antcache.errors import AlreadyExists, DamagedStore
from antcache.store import Store
from antcache.store.format import STAGING, TEXT_BYTES
from antcache.store.remote import files as files_module
from antcache.store.remote import lease as lease_module
from antcache.store.remote.claim import CLAIM, in_staging
from antcache.store.remote.files import RemoteFiles
from antcache.store.remote.holder import Holder
from antcache.store.remote.lease import LEASE_S, WORK, Leases

UNIT = "features/rgb/v1"
NAME = in_staging(UNIT, WORK)


class Clock:
    """A clock of one's own, which says what it is told."""

    def __init__(self) -> None:
        self.now = 5.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that leases are watched by; there is no other, and none of the server's."""
    clock = Clock()
    monkeypatch.setattr(lease_module, "time", clock)
    monkeypatch.setattr(RemoteFiles, "seconds_between", None)
    return clock


@pytest.fixture
def elsewhere(store: Store) -> bytes:
    """A lease whose holder can't be asked whether it lives."""
    holder = Holder(owner="x", host="elsewhere", machine="y", pid=1, started="2")
    store.backend.files.write_many({NAME: holder.text(beat=0)})
    return holder.text(beat=1)


def claims(store: Store) -> bool:
    """Whether it gets the unit; if so, it gives it up again."""
    with store.claim_features("rgb", "v1") as ours:
        return ours


def test_one_works_and_the_next_may_when_it_is_done(s3: S3, store: Store, url: str) -> None:
    other = pickle.loads(pickle.dumps(Store.open(url)))
    with store.claim_features("rgb", "v1") as ours, other.claim_features("rgb", "v2") as others:
        assert (ours, others) == (True, True)
        assert not claims(other)
        assert not claims(store)  # another thread of the process is another, too
        store.write_features("rgb", "v1", ROWS)  # the lease is no obstacle to who has it
    assert claims(other)
    assert [name for name in s3.objects(url) if STAGING in name] == []


def test_what_a_killed_process_had_is_taken_at_once_on_its_machine(s3: S3, store: Store) -> None:
    def killed() -> None:
        held = store.claim_features("rgb", "v1")
        assert held.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(killed) == -signal.SIGKILL
    assert store.backend.files.is_file(NAME)
    assert claims(store)
    assert not store.backend.files.is_file(NAME)


def test_what_a_killed_process_left_is_tidied(
    s3: S3, store: Store, url: str, elsewhere: bytes
) -> None:
    """Leases of units that are there by now, and of the dead; others may live."""

    def killed() -> None:
        held = [store.claim_features("rgb", name) for name in ("v2", "v3")]
        assert all(each.__enter__() for each in held)
        os.kill(os.getpid(), signal.SIGKILL)

    in_child(killed)
    store.write_features("rgb", "v2", ROWS)
    s3.fs.pipe_file(f"{url}/{STAGING}/nobody's.work", b"")
    store.backend.remove_leftovers()
    left = [name for name in s3.objects(url) if STAGING in name]
    assert left == [NAME, f"{STAGING}/nobody's.work"]


def test_a_lease_of_another_machine_is_watched_by_ones_own_clock(
    store: Store, clock: Clock, elsewhere: bytes
) -> None:
    assert not claims(store)
    clock.now += LEASE_S
    assert not claims(store)
    store.backend.files.write_many({NAME: elsewhere})  # it lives
    clock.now += 1
    assert not claims(store)
    clock.now += LEASE_S
    assert not claims(store)
    assert not claims(Store.open(str(store.path)))  # which has seen it for no time yet
    clock.now += 1
    assert claims(store)
    assert not store.backend.files.is_file(NAME)


@pytest.mark.usefixtures("elsewhere")
def test_of_two_that_take_over_one_does(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second takes over between the look of the first and its attempt."""
    other = Store.open(str(store.path))
    assert not claims(store)
    assert not claims(other)
    clock.now += LEASE_S + 1
    taken = other.claim_features("rgb", "v1")
    is_over = Leases._is_over

    def late(self: Leases, *about: Any) -> bool:
        over = is_over(self, *about)
        if self is store.backend._leases and over:
            monkeypatch.undo()
            assert taken.__enter__()
        return over

    monkeypatch.setattr(Leases, "_is_over", late)
    monkeypatch.setattr(lease_module, "time", clock)
    with store.claim_features("rgb", "v1") as ours:
        assert not ours
    taken.__exit__(None, None, None)


def test_a_lease_is_kept_up_until_another_has_it(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where an answer is lost; its tag changes each time."""
    monkeypatch.setattr(lease_module, "BEAT_S", 0.001)
    files, replace = store.backend.files, RemoteFiles.replace
    answers, lost = iter([True, False, True]), threading.Event()
    tags: list[str] = []

    def replacing(self: RemoteFiles, name: str, value: bytes, *, was: bytes) -> bool:
        answer = next(answers, None)
        if answer is None:
            self.write_many({name: b"another's"})
        done = replace(self, name, value, was=was)
        if answer is None:
            assert not done
            lost.set()
        else:
            tags.append(json.loads(files.read(name))["beat"])
        return done and bool(answer)

    monkeypatch.setattr(RemoteFiles, "replace", replacing)
    with store.claim_features("rgb", "v1") as ours:
        assert ours
        assert lost.wait(60)
    assert tags == [1, 2, 3]
    assert files.read(NAME) == b"another's"  # and stays so
    assert "was taken for dead; another process took over" in caplog.text


GOOD = {"owner": "x", "host": "h", "machine": None, "pid": 1, "started": None}
HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff{",
    "nested": b"[" * 100_000,
    "a list": b"[1]",
    "a number": b"1e999",
    **{
        f"{key} {value!r:.20}": json.dumps({**GOOD, key: value}).encode()
        for key, value in (
            ("pid", "1"),
            ("pid", -1),
            ("pid", True),
            ("pid", 10**4000),
            ("pid", [1]),
            ("owner", 3),
            ("machine", {}),
            ("started", 2),
            ("host", None),
        )
    },
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_what_is_no_claim_of_ours_is_respected_and_ends(
    memory: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    """Whatever it says: nobody is asked for dead by it, and nothing raised but what it means."""
    assert Holder.read(text) is None
    store = Store.create(memory)
    files = store.backend.files
    for ending in (WORK, CLAIM):
        files.write_many({in_staging(UNIT, ending): text})
    assert not claims(store)
    clock.now += LEASE_S + 1
    assert claims(store)
    monkeypatch.setattr(RemoteFiles, "seconds_between", lambda *_: 0.0)
    with pytest.raises(AlreadyExists, match="another process is writing it \\(let it finish"):
        store.backend.publish(UNIT, {"rows": np.zeros((1, 1))}, {})


def test_a_claim_that_is_no_text_is_told(memory: str) -> None:
    store = Store.create(memory)
    store.backend.files.write_many({NAME: b" " * (TEXT_BYTES + 1)})
    with pytest.raises(DamagedStore, match=r"v1\.work.* bytes are too many"):
        claims(store)


def test_a_server_that_takes_no_notice_of_conditions_is_noticed(
    s3: S3,
    store: Store,
    url: str,
    s3_deaf: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a trial, once; then work may be done twice, and what is there is looked for first."""
    caplog.set_level("INFO", "antcache")
    deaf = Store.open(url, storage_options=s3_deaf)
    tried = []
    listens = files_module._listens
    monkeypatch.setattr(
        files_module, "_listens", lambda *a, **k: tried.append(a) or listens(*a, **k)
    )
    with deaf.claim_features("rgb", "v1") as ours, deaf.claim_features("rgb", "v1") as others:
        assert (ours, others) == (True, True)
    assert len(tried) == 1
    assert "does not write on condition: work may be done twice" in caplog.text
    files: RemoteFiles = deaf.backend.files
    files.create("there", b"first")
    with pytest.raises(FileExistsError):
        files.create("there", b"second")
    assert files.replace("there", b"second", was=b"first")
    assert store.backend.files.on_condition()
    assert [name for name in s3.objects(url) if STAGING in name] == []


@pytest.mark.parametrize("code", ["NotImplemented", "AccessDenied"])
def test_a_server_that_refuses_to_be_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """One without the feature is used as before; any other refusal is told as what it is."""

    class Answered(Exception):
        response: ClassVar = {"Error": {"Code": code}}

    fs = store.backend.files._connect()[0]
    pipe_file = fs.pipe_file

    def refusing(path: str, value: bytes, **conditions: Any) -> None:
        if conditions:
            raise OSError(code) from Answered()
        pipe_file(path, value)

    monkeypatch.setattr(fs, "pipe_file", refusing)
    if code == "NotImplemented":
        assert claims(store)
    else:
        with pytest.raises(OSError, match=r"can't be written \(AccessDenied"):
            claims(store)


def test_places_without_conditions_have_no_leases(tmp_path: Path) -> None:
    """A disk is not claimed by objects, whatever it is called."""
    assert not RemoteFiles(f"local://{tmp_path}/store").on_condition()
