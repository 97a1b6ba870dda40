"""Streams pushed onto a hub and pulled again: only what is missing, and nothing unchecked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hub import Hub, point

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, DamagedStore, FingerprintMismatch, Unreachable
from antcache.interop.hub import listing, pushing
from antcache.interop.hub.pulling import pull_stream
from antcache.interop.hub.pushing import push_stream
from antcache.store import Store

REPO, DIM, VIDEOS = "kitchen/features", 40, ("P01_01", "P01_02", "a video [1]", "take 2")


def make(place: Path, backend: str = "zarr", videos: tuple[str, ...] = VIDEOS) -> Store:
    """A store with two streams; rows of the second video are a large file."""
    store = Store.create(place, backend=backend)
    for name in ("rgb", "flow"):
        store.create_stream(name, dim=DIM, dtype="float16", fps=4.0, source=name, config={})
        for number, video in enumerate(videos):
            rows = np.random.default_rng(number).standard_normal((30 if number == 1 else 8, DIM))
            store.write_features(name, video, rows.astype(np.float16))
    return store


def invoke(*words: object) -> Any:
    return CliRunner().invoke(cli, [*map(str, words)])


def assert_same(one: Store, two: Store, videos: tuple[str, ...] = VIDEOS) -> None:
    assert one.stream("rgb").fingerprint == two.stream("rgb").fingerprint
    assert tuple(two.videos("rgb")) == tuple(sorted(videos))
    for video in videos:
        mine, theirs = one.features("rgb", video), two.features("rgb", video)
        np.testing.assert_array_equal(mine.rows[:], theirs.rows[:])


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_a_stream_comes_back_as_it_was(hub: Hub, tmp_path: Path, backend: str) -> None:
    store = make(tmp_path / "store", backend)
    done = invoke("store", "push", store.path, REPO, "--stream", "rgb")
    assert done.exit_code == 0, done.output
    assert "4 videos of rgb pushed" in done.output
    names = hub.files(REPO)
    assert not any(name.startswith("features/flow") for name in names)
    assert any(len(data) >= 2000 for data in names.values())  # beside git
    done = invoke("store", "pull", REPO, tmp_path / "there", "--stream", "rgb")
    assert done.exit_code == 0, done.output
    assert_same(store, Store.open(tmp_path / "there"))
    assert not list(tmp_path.glob("there/.cache"))


def test_a_push_that_was_interrupted_goes_on_with_what_is_missing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "store")
    monkeypatch.setattr(pushing, "COMMIT_FILES", 1)  # one unit a commit
    hub.commits_left = 2
    with pytest.raises(Unreachable, match=f"{REPO}: can't be reached"):
        push_stream(store, REPO, "rgb")
    hub.commits_left = None
    report = push_stream(store, REPO, "rgb")
    assert (report.skipped, report.written) == (VIDEOS[:2], VIDEOS[2:])
    assert report.commits == 2
    assert push_stream(store, REPO, "rgb").commits == 0
    pull_stream(REPO, tmp_path / "there", "rgb")
    assert_same(store, Store.open(tmp_path / "there"))


def test_a_pull_fetches_what_is_missing(hub: Hub, tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    push_stream(store, REPO, "rgb")
    there = tmp_path / "there"
    pull_stream(REPO, there, "rgb")
    Store.open(there).remove("features/rgb/take 2")
    hub.fetched.clear()
    report = pull_stream(REPO, there, "rgb")
    assert report.written == ("take 2",)
    assert report.skipped == tuple(sorted(set(VIDEOS) - {"take 2"}))
    units = {name for name in hub.fetched if name.count("/") > 2}
    assert {name.split("/")[2] for name in units} == {"take 2"}
    assert_same(store, Store.open(there))


def test_a_damaged_unit_is_published_nowhere(hub: Hub, tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    push_stream(store, REPO, "rgb")
    name = "features/rgb/P01_02/rows/c/0/0"
    data = bytearray(hub.files(REPO)[name])
    data[100] ^= 1
    hub.files(REPO)[name] = bytes(data)
    with pytest.raises(DamagedStore, match="P01_02"):
        pull_stream(REPO, tmp_path / "there", "rgb")
    assert "P01_02" not in Store.open(tmp_path / "there").videos("rgb")
    done = invoke("store", "pull", REPO, tmp_path / "there", "--stream", "rgb")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_nothing_damaged_is_pushed(hub: Hub, tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    file = tmp_path / "store/features/rgb/P01_02/rows/c/0/0"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedStore, match="P01_02"):
        push_stream(store, REPO, "rgb")


def test_names_that_lead_elsewhere_are_left_alone(hub: Hub, tmp_path: Path) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    for name in ("features/rgb/../../out", "features/rgb/.x/y", "features/rgb/a\\b/c", "/etc/x"):
        hub.files(REPO)[name] = b"x"
    report = pull_stream(REPO, tmp_path / "there", "rgb")
    assert report.written == VIDEOS
    assert "features/rgb/../../out" not in hub.fetched


def test_other_values_are_never_replaced(hub: Hub, tmp_path: Path) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    other = Store.create(tmp_path / "other")
    other.create_stream("rgb", dim=DIM, dtype="float16", fps=4.0, source="rgb", config={})
    other.write_features("rgb", "P01_01", np.ones((8, DIM), np.float16))
    before = dict(hub.files(REPO))
    with pytest.raises(AlreadyExists, match="other values of a unit"):
        push_stream(other, REPO, "rgb")
    faster = Store.create(tmp_path / "faster")
    faster.create_stream("rgb", dim=DIM, dtype="float16", fps=8.0, source="rgb", config={})
    with pytest.raises(FingerprintMismatch, match="other settings"):
        push_stream(faster, REPO, "rgb")
    with pytest.raises(FingerprintMismatch, match="other settings"):
        pull_stream(REPO, tmp_path / "faster", "rgb")
    assert hub.files(REPO) == before


def test_bad_input_takes_one_line(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path / "store")
    push_stream(store, REPO, "rgb")
    there = tmp_path / "there"
    asked = [
        (("push", store.path, REPO, "--stream", "none"), "none"),
        (("push", store.path, "no hub id", "--stream", "rgb"), "OWNER/NAME"),
        (("push", tmp_path / "nothing", REPO, "--stream", "rgb"), "nothing"),
        (("pull", "kitchen/nothing", there, "--stream", "rgb"), "no such repository"),
        (("pull", REPO, there, "--stream", "flow"), "no such stream"),
        (("pull", REPO, there, "--stream", "rgb", "--revision", "x"), "no such revision"),
    ]
    for words, expected in asked:
        done = invoke("store", *words)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert expected in done.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    done = invoke("store", "push", store.path, REPO, "--stream", "flow")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "no token, or one that is not valid" in done.stderr
    point(monkeypatch, "http://127.0.0.1:9")  # nobody listens
    for words in (("push", store.path, REPO), ("pull", REPO, there)):
        done = invoke("store", *words, "--stream", "rgb")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert "no answer of the hub" in done.stderr
    assert not there.exists()


INFO = r"^/api/datasets/kitchen/features(/revision/main)?$"
TREE, ROWS = "/tree/", "/resolve/.*P01_02/rows/c"
NONSENSE = [b"<html>", b"null", b"[1, {}]", b'{"a": 1}', b"[" * 100_000, b'[{"type": 1}]']


@pytest.mark.parametrize("place", [INFO, TREE])
@pytest.mark.parametrize("said", NONSENSE)
def test_a_hub_that_talks_nonsense_takes_one_line(
    hub: Hub, tmp_path: Path, place: str, said: bytes
) -> None:
    store = make(tmp_path / "store", videos=VIDEOS[:1])
    push_stream(store, REPO, "rgb")
    hub.spoiled[place] = said
    for words in (("pull", REPO, tmp_path / "there"), ("push", store.path, REPO)):
        done = invoke("store", *words, "--stream", "rgb")
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert f"{REPO}: can't be reached (an answer that is no hub's)" in done.stderr
    assert not (tmp_path / "there").exists()


def test_a_list_that_does_not_end_is_given_up(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    hub.next_page = True
    with pytest.raises(Unreachable, match="an answer that is no hub's"):
        pull_stream(REPO, tmp_path / "there", "rgb")
    hub.next_page = False
    monkeypatch.setattr(listing, "MOST_FILES", 3)
    with pytest.raises(Unreachable, match="an answer that is no hub's"):
        pull_stream(REPO, tmp_path / "there", "rgb")


@pytest.mark.parametrize("status", [403, 404])
def test_a_hub_that_refuses_a_file_is_quoted(hub: Hub, tmp_path: Path, status: int) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    hub.spoiled[ROWS] = status
    done = invoke("store", "pull", REPO, tmp_path / "there", "--stream", "rgb")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert {403: "the token may not do this", 404: "404"}[status] in done.stderr


@pytest.mark.parametrize("change", ["other", "more", "nothing"])
def test_other_bytes_than_the_hub_lists_are_refused(hub: Hub, tmp_path: Path, change: str) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    data = hub.files(REPO)["features/rgb/P01_02/rows/c/0/0"]
    hub.spoiled[ROWS] = {
        "other": data[:-1] + bytes([data[-1] ^ 1]),
        "more": data + b"x",
        "nothing": b"",
    }[change]
    done = invoke("store", "pull", REPO, tmp_path / "there", "--stream", "rgb")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert f"{REPO}: features/rgb/P01_02/rows/c/0/0: other bytes came than" in done.stderr
    assert "P01_02" not in Store.open(tmp_path / "there").videos("rgb")
    hub.spoiled.clear()
    pull_stream(REPO, tmp_path / "there", "rgb")  # goes on
    assert_same(make(tmp_path / "again"), Store.open(tmp_path / "there"))


def test_a_body_that_does_not_end_is_cut_off(hub: Hub, tmp_path: Path) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    hub.endless = ROWS
    with pytest.raises(DamagedStore, match="P01_02/rows/c/0/0: other bytes came than the hub"):
        pull_stream(REPO, tmp_path / "there", "rgb")
    assert hub.sent < 100 << 20


def test_what_is_wrong_is_said_of_the_repository(hub: Hub, tmp_path: Path) -> None:
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    hub.files(REPO)["features/rgb/P01_02/rows/c/0/0"] = b"short"
    done = invoke("store", "pull", REPO, tmp_path / "there", "--stream", "rgb")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert f"{REPO}: what came is not as antcache writes it: found features/rgb/P01" in done.stderr
    assert "antcache-pull-" not in done.stderr  # a folder that is not there any more
    assert "repair" not in done.stderr
    hub.files(REPO)["zarr.json"] = b"{}"
    done = invoke("store", "pull", REPO, tmp_path / "new", "--stream", "rgb")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
    assert "what came is not as antcache writes it: found zarr.json: not as it" in done.stderr
    assert not (tmp_path / "new").exists()


def test_nothing_is_waited_for_once_a_file_is_refused(hub: Hub, tmp_path: Path) -> None:
    """Nor after Ctrl-C, which takes the same way."""
    push_stream(make(tmp_path / "store"), REPO, "rgb")
    hub.slow, hub.spoiled["/resolve/.*take 2/rows/c"] = "/resolve/.*P01_01/rows/c", 403
    with pytest.raises(Unreachable, match="the token may not do this"):
        pull_stream(REPO, tmp_path / "there", "rgb")
    assert 0 < hub.sent < 1000
    hub.slow, hub.spoiled = "", {}
    pull_stream(REPO, tmp_path / "there", "rgb")
