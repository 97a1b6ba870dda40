"""Labels of several splits: together or not at all, whoever is killed, and equal ones again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shelves import KINDS

from antcache.annotations import Segments, Taxonomy
from antcache.errors import AlreadyExists, BadAnnotations, FingerprintMismatch, WriteFailed
from antcache.store import Store
from antcache.store.backends import is_empty
from antcache.store.format import STAGING, digest
from antcache.store.integrity.verify import verify
from antcache.store.local import folder as folder_module
from antcache.store.local.folder import FolderBackend
from antcache.store.soft_targets import SoftTargets

Killed = Callable[[Callable[[], Any], int], bool]
FIELDS: dict[str, Any] = {
    "dataset": "toy",
    "verbs": ("take",),
    "nouns": ("pan", "cup"),
    "actions": ("take pan", "take cup"),
    "action_verbs": (0, 0),
    "action_nouns": (0, 1),
}
PLAIN = Taxonomy(**FIELDS)
LISTED = Taxonomy(**FIELDS, many_shot_actions=(1,))


def segments(prefix: str, action: int) -> Segments:
    """Three segments of one action."""
    return Segments.of(
        uid=[f"{prefix}{n}" for n in range(3)],
        video=[prefix] * 3,
        start_s=np.arange(3.0),
        stop_s=np.arange(3.0) + 1,
        verb=[0] * 3,
        noun=[action] * 3,
        action=[action] * 3,
    )


def splits(action: int, *names: str) -> dict[str, Segments]:
    return {name: segments(name, action) for name in names or ("train", "validation")}


OLD, NEW = splits(0), splits(1)


def import_into(path: Path, kind: str, labels: dict[str, Segments], **how: Any) -> None:
    """What `antcache annotations import` does."""
    taxonomy = how.pop("taxonomy", PLAIN)
    store = Store.open_or_create(path, dataset=taxonomy.dataset, backend=kind)
    store.write_splits(labels, taxonomy, source="test", **how)


def tree(path: Path) -> dict[str, bytes]:
    """Every file of a store outside staging."""
    files = (p for p in path.rglob("*") if p.is_file() and STAGING not in p.parts)
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def restore(path: Path, kept: Path) -> None:
    """Put a copy of a store in the place of whatever is there."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(kept, path)


# Who is killed in a folder is so in stores of both kinds: some of these look at one, others at
# the other.


@pytest.mark.parametrize(("kind", "exchanges"), [("zarr", True), ("hdf5", False)])
def test_a_killed_import_goes_on(
    path: Path, kind: str, killed: Killed, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each call that gives a name: nothing is there, or everything is."""
    if not exchanges:
        monkeypatch.setattr(folder_module, "exchange", lambda *_: False)
    import_into(path, kind, NEW)
    expected = tree(path)
    for number in range(1000):
        shutil.rmtree(path)
        if not killed(lambda: import_into(path, kind, NEW), number):
            break
        if path.exists() and not is_empty(path):
            store = Store.open(path)
            assert store.splits() in ([], ["train", "validation"])
            assert store.splits() == [] or tree(path) == expected
            assert verify(store).intact
        import_into(path, kind, NEW)
        assert tree(path) == expected
        assert not (path / STAGING).exists()
    assert number >= 2


def test_a_killed_import_that_replaces_leaves_the_old_or_the_new(
    path: Path, killed: Killed
) -> None:
    """Of splits and of lists of classes alike; a split that is not replaced stays."""
    kind, kept = "zarr", path.with_name("kept")
    ways: list[dict[str, bytes]] = []
    for taxonomy, labels in ((PLAIN, OLD), (LISTED, NEW)):
        import_into(path, kind, splits(0, "test"), taxonomy=PLAIN)
        import_into(path, kind, OLD, taxonomy=PLAIN)
        import_into(path, kind, labels, taxonomy=taxonomy, overwrite=True)
        ways.append(tree(path))
        path.rename(kept) if not kept.exists() else shutil.rmtree(path)
    found = set()
    for number in range(1000):
        restore(path, kept)

        def work() -> None:
            import_into(path, kind, NEW, taxonomy=LISTED, overwrite=True)

        if not killed(work, number):
            break
        found.add(ways.index(tree(path)))
        work()
        assert tree(path) == ways[1]
        assert not (path / STAGING).exists()
    assert found == {0, 1}
    assert number >= 2


def test_where_folders_can_not_change_places_splits_are_never_mixed(
    path: Path, killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed on the way some are missing, and the same import brings them."""
    kind, kept = "hdf5", path.with_name("kept")
    import_into(kept, kind, OLD)
    monkeypatch.setattr(folder_module, "exchange", lambda *_: False)
    missing = set()
    for number in range(1000):
        restore(path, kept)

        def work() -> None:
            import_into(path, kind, NEW, taxonomy=LISTED, overwrite=True)

        if not killed(work, number):
            break
        store = Store.open(path)
        assert verify(store).intact
        nouns = {int(store.labels(split).noun[0]) for split in store.splits()}
        assert len(nouns) <= 1
        missing.add(len(store.splits()))
        work()
        assert store.splits() == ["train", "validation"]
        assert {int(store.labels(split).noun[0]) for split in store.splits()} == {1}
        assert store.taxonomy == LISTED
    assert missing == {0, 1, 2}


def test_segments_are_in_one_split(path: Path, kind: str) -> None:
    """Of those that are given together, and of those that are there and stay."""
    import_into(path, kind, {**OLD, "labels": segments("labels", 0)})
    before, store = tree(path), Store.open(path)
    both = {"train": segments("labels", 0), "validation": OLD["validation"]}
    for overwrite in (False, True):
        words = r"'labels' has 3 of these.*store remove .*/labels\)"
        with pytest.raises(AlreadyExists, match=words):
            store.write_splits({"new": both["train"]}, PLAIN, source="x", overwrite=overwrite)
        twice = {"a": segments("x", 0), "b": segments("x", 0)}
        with pytest.raises(BadAnnotations, match="'a' and 'b' have 3 segments in common"):
            store.write_splits(twice, PLAIN, source="x", overwrite=overwrite)
    with pytest.raises(AlreadyExists, match=words):
        store.write_splits(both, PLAIN, source="x", overwrite=True)
    assert tree(path) == before
    both["labels"] = segments("train", 0)  # they change places
    store.write_splits(both, PLAIN, source="x", overwrite=True)
    assert store.labels("labels").uid.tolist() == OLD["train"].uid.tolist()


def test_segments_are_in_one_split_whoever_writes_the_other(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that writes them under another name just before this one's turn comes."""
    store, alone = Store.create(path, backend=kind), FolderBackend.exclusively

    def late(backend: FolderBackend, key: str) -> Any:
        monkeypatch.setattr(FolderBackend, "exclusively", alone)
        Store.open(path).write_labels("all", OLD["train"], PLAIN, source="test")
        return alone(backend, key)

    monkeypatch.setattr(FolderBackend, "exclusively", late)
    with pytest.raises(AlreadyExists, match="'all' has 3 of these segments already"):
        store.write_splits(OLD, PLAIN, source="test")
    assert store.splits() == ["all"]


def test_the_same_again_changes_nothing(path: Path, kind: str) -> None:
    import_into(path, kind, OLD)
    before = tree(path)
    store = Store.open(path)
    assert store.write_splits(OLD, PLAIN, source="another folder") == []
    assert tree(path) == before
    more = {**OLD, **splits(1, "test")}
    assert store.write_splits(more, PLAIN, source="test") == ["test"]
    assert {k: v for k, v in tree(path).items() if "test" not in k} == before
    assert store.splits() == ["test", "train", "validation"]
    assert store.write_splits(OLD, PLAIN, source="x", overwrite=True) == ["train", "validation"]


def test_other_labels_are_refused_with_their_names(path: Path, kind: str) -> None:
    import_into(path, kind, OLD)
    before, store = tree(path), Store.open(path)
    with pytest.raises(AlreadyExists, match=r"other labels of validation \(--overwrite"):
        store.write_splits({**OLD, "validation": NEW["validation"]}, PLAIN, source="x")
    with pytest.raises(AlreadyExists, match="other labels of train, validation"):
        store.write_splits({**NEW, **splits(0, "test")}, PLAIN, source="x")
    with pytest.raises(AlreadyExists, match="other lists of many-shot or tail classes"):
        store.write_splits(OLD, LISTED, source="x")
    other = Taxonomy(**{**FIELDS, "nouns": ("pan", "pot")})
    with pytest.raises(FingerprintMismatch, match=r"another taxonomy: .*\(--overwrite replaces it"):
        store.write_splits(OLD, other, source="x")
    assert tree(path) == before


def test_segments_that_differ_by_their_uids_alone_are_told(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    import_into(path, kind, OLD)
    assert not caplog.messages
    store = Store.open(path)
    train = OLD["train"]
    twins = replace(train, uid=np.char.add("again ", train.uid))
    store.write_splits({"test": twins}, PLAIN, source="x")
    (said,) = caplog.messages
    assert said.startswith("3 segments of test are in train too")
    store.remove("labels/test")
    caplog.clear()
    moved = replace(twins, start_s=train.start_s + 0.25)
    store.write_splits({"test": moved}, PLAIN, source="x")
    assert not caplog.messages


OTHER = Taxonomy(**{**FIELDS, "nouns": ("pan", "cup", "hand:left")})


def targets_of(taxonomy: Taxonomy) -> SoftTargets:
    return SoftTargets(
        uid=OLD["train"].uid,
        valid=np.ones(3, bool),
        logits=np.zeros((3, 2), np.float32),
        attributes={"taxonomy": taxonomy.fingerprint},
    )


def test_another_taxonomy_replaces_the_old_one_with_all_that_is_of_it(
    path: Path, kind: str
) -> None:
    """Features know no classes, and stay; what was of the old classes is never beside the new."""
    import_into(path, kind, OLD, taxonomy=OTHER)
    store = Store.open(path)
    store.create_stream("rgb", dim=2, dtype="float32", fps=2, source="test", config={})
    store.write_features("rgb", "train", np.ones((3, 2), np.float32))
    features = {k: v for k, v in tree(path).items() if k.startswith("features")}
    assert store.write_splits(OLD, PLAIN, source="x", overwrite=True) == ["train", "validation"]
    again = Store.open(path)
    assert again.taxonomy == PLAIN
    assert [again.labels(split).uid.tolist() for split in again.splits()] == [
        OLD[split].uid.tolist() for split in again.splits()
    ]
    assert {k: v for k, v in tree(path).items() if k.startswith("features")} == features
    assert verify(again).intact


def test_another_taxonomy_waits_for_what_would_stay_of_the_old_one(path: Path, kind: str) -> None:
    import_into(path, kind, {**OLD, **splits(0, "test")}, taxonomy=OTHER)
    store = Store.open(path)
    store.write_targets("count", targets_of(OTHER))
    before = tree(path)
    words = r"labels/test, targets/count of it: expected .*3 nouns.*found .*2 nouns.*store remove"
    with pytest.raises(FingerprintMismatch, match=words):
        store.write_splits(OLD, PLAIN, source="x", overwrite=True)
    assert tree(path) == before
    store.remove("labels/test")
    with pytest.raises(FingerprintMismatch, match=r"and targets/count of it"):
        store.write_splits(OLD, PLAIN, source="x", overwrite=True)
    store.remove("targets/count")
    store.write_splits(OLD, PLAIN, source="x", overwrite=True)
    assert (store.taxonomy, store.target_names()) == (PLAIN, [])


def with_features(path: Path, kind: str, dataset: str) -> Store:
    """A store that a wrong import was removed from."""
    import_into(path, kind, OLD, taxonomy=Taxonomy(**{**FIELDS, "dataset": dataset}))
    store = Store.open(path)
    store.create_stream("rgb", dim=2, dtype="float32", fps=2, source="test", config={})
    store.write_features("rgb", "train", np.ones((3, 2), np.float32))
    store.remove("labels/train", "labels/validation")
    return store


def test_without_labels_another_taxonomy_is_taken(path: Path, kind: str) -> None:
    """Unless soft targets of the old one are left."""
    store = with_features(path, kind, "toy")
    store.write_targets("count", targets_of(PLAIN))
    with pytest.raises(FingerprintMismatch, match="and targets/count of it"):
        store.write_splits(OLD, OTHER, source="x")
    store.remove("targets/count")
    assert store.write_splits(OLD, OTHER, source="x") == ["train", "validation"]
    assert (store.taxonomy, verify(store).intact) == (OTHER, True)
    store.remove("labels/train", "labels/validation")
    store.write_splits(OLD, PLAIN, source="x")
    store.remove("labels/train", "labels/validation")
    store.write_splits(OLD, LISTED, source="x")
    assert (store.taxonomy, store.videos("rgb")) == (LISTED, ["train"])


def test_without_labels_the_dataset_may_be_another(path: Path, killed: Killed) -> None:
    """Where it is asked for, and no soft targets are left; killed on the way, the same goes on."""
    kept = path.with_name("kept")
    store = with_features(kept, "zarr", "a/é b")
    before = tree(kept)
    with pytest.raises(FingerprintMismatch, match=r"another dataset: .*found toy.*--overwrite"):
        store.write_splits(OLD, PLAIN, source="x")
    assert tree(kept) == before
    for number in range(1000):
        restore(path, kept)

        def work() -> None:
            Store.open(path).write_splits(OLD, PLAIN, source="x", overwrite=True)

        stopped = killed(work, number)
        again = Store.open(path)
        assert verify(again).intact
        again.write_splits(OLD, PLAIN, source="x", overwrite=True)
        assert (again.dataset, again.taxonomy, again.videos("rgb")) == ("toy", PLAIN, ["train"])
        assert verify(again).intact
        if not stopped:
            break
    assert number > 2
    other = Taxonomy(**{**FIELDS, "dataset": "other"})
    for key in ("labels/train", "labels/validation"):
        with pytest.raises(FingerprintMismatch, match="another dataset"):
            again.write_splits(OLD, other, source="x", overwrite=True)
        again.remove(key)
    again.write_targets("count", targets_of(PLAIN))
    with pytest.raises(FingerprintMismatch, match="another dataset"):
        again.write_splits(OLD, other, source="x", overwrite=True)
    assert again.dataset == "toy"


def test_what_others_keep_beside_the_labels_stays(path: Path, kind: str) -> None:
    import_into(path, kind, OLD)
    (path / "labels" / "notes.txt").write_text("years of work")
    (path / "labels" / "plots").mkdir()
    (path / "labels" / "plots" / "1.png").write_text("a picture")
    (path / "labels" / ".link").symlink_to("notes.txt")
    import_into(path, kind, NEW, overwrite=True)
    assert (path / "labels" / ".link").readlink() == Path("notes.txt")
    assert (path / "labels" / ".link").read_text() == "years of work"
    assert (path / "labels" / "plots" / "1.png").read_text() == "a picture"
    assert Store.open(path).splits() == ["train", "validation"]
    assert verify(Store.open(path)).intact


def test_what_can_not_be_copied_is_said(path: Path, kind: str) -> None:
    """And never waited for: a pipe, say."""
    import_into(path, kind, OLD)
    before = tree(path)
    os.mkfifo(path / "labels" / "pipe")
    with pytest.raises(WriteFailed, match="pipe"):
        import_into(path, kind, NEW, overwrite=True)
    assert tree(path) == before


def test_labels_are_changed_by_one_process_at_a_time(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first look at what is there until the last change; another one waits."""
    store, seen = Store.create(path, backend=kind), []
    waiting = Store.open(path).backend

    def look(name: str) -> None:
        call = getattr(FolderBackend, name)

        def looked(*args: Any, **options: Any) -> Any:
            with waiting.staging.hold(digest(b"alone ", b"labels")) as ours:
                seen.append((name, ours))
            return call(*args, **options)

        monkeypatch.setattr(FolderBackend, name, looked)

    names = ("group_attributes", "add_group_attributes", "publish_group", "publish")
    for name in names:
        look(name)
    store.write_splits(OLD, PLAIN, source="test")
    assert {name for name, _ in seen} == {*names[:3]}
    store.write_targets("count", targets_of(PLAIN))
    assert {name for name, _ in seen} == {*names}
    assert not any(ours for _, ours in seen)


def test_soft_targets_are_of_the_classes_that_are_there_when_their_turn_comes(
    path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_into(path, kind, OLD, taxonomy=OTHER)
    store, alone = Store.open(path), FolderBackend.exclusively

    def late(backend: FolderBackend, key: str) -> Any:
        monkeypatch.setattr(FolderBackend, "exclusively", alone)
        Store.open(path).write_splits(OLD, PLAIN, source="test", overwrite=True)
        return alone(backend, key)

    monkeypatch.setattr(FolderBackend, "exclusively", late)
    with pytest.raises(FingerprintMismatch, match="soft targets for another taxonomy"):
        store.write_targets("count", targets_of(OTHER))
    assert store.target_names() == []


def test_attributes_are_given_once(path: Path, kind: str) -> None:
    backend = Store.create(path, backend=kind).backend
    assert backend.add_group_attributes("features/rgb", {"a": 1, "b": None}) == {"a": 1, "b": None}
    assert backend.add_group_attributes("features/rgb", {"a": 2, "b": 3, "c": 4}) == {
        "a": 1,
        "b": 3,  # there was none
        "c": 4,
    }
    assert backend.group_attributes("features/rgb") == {"a": 1, "b": 3, "c": 4}
    assert backend.groups("features") == ["rgb"]
    before = tree(path)
    backend.add_group_attributes("features/rgb", {"a": 5})
    assert tree(path) == before
