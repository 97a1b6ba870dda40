"""For who writes a backend of their own: what `Store` promises, whatever lies below it.

    from antcache.testing import StoreContract, add_stream

    class TestMine(StoreContract):
        @pytest.fixture
        def store(self) -> Store:
            store = Store.create_in(MyBackend("somewhere"))
            add_stream(store)
            return store

        def reopen(self, store: Store) -> Store:
            return Store(MyBackend("somewhere"))

Promise: the backends of antcache itself pass these very tests. They need pytest, and look
at nothing but `Store` and `Backend`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from antcache.annotations import Segments, Taxonomy
from antcache.errors import (
    AlreadyExists,
    BadConfig,
    DamagedStore,
    FingerprintMismatch,
    MissingKey,
    WriteFailed,
)
from antcache.store import SoftTargets, Store
from antcache.store.backend import Backend
from antcache.store.integrity.verify import verify
from antcache.testing.token_contract import TokenContract

TAXONOMY = Taxonomy(
    dataset="toy",
    verbs=("take", "put"),
    nouns=("pan", "jalapeño"),
    actions=("take_pan", "put_pan", "take_jalapeño"),
    action_verbs=(0, 1, 0),
    action_nouns=(0, 0, 1),
    many_shot_actions=(0,),
)
SEGMENTS = Segments.of(
    uid=["0001", "ü2", "3"],
    video=["v1", "v1", "v2"],
    start_s=[0.1, 2.0, 1 / 3],
    stop_s=[1.0, 3.0, 7.0],
    verb=[0, 1, 0],
    noun=[0, 0, 1],
    action=[0, 1, 2],
)


def soft_targets(**attributes: Any) -> SoftTargets:
    """Soft targets of `SEGMENTS`, the last of them not valid."""
    rng = np.random.default_rng(0)
    return SoftTargets(
        uid=SEGMENTS.uid,
        valid=np.array([True, True, False]),
        logits=rng.normal(size=(3, 3)).astype(np.float32),
        moment=SEGMENTS.moments(),
        attributes={"taxonomy": TAXONOMY.fingerprint, "config": {"order": [1, 2]}, **attributes},
    )


def add_stream(store: Store, *, name: str = "rgb", **changed: Any) -> None:
    """Create the stream `name` of 8 float16 numbers a row, 4 rows a second."""
    settings = {"dim": 8, "dtype": "float16", "fps": 4.0, "source": "test", "config": {"a": None}}
    store.create_stream(name, **{**settings, **changed})


VIDEO_NAMES = (
    *("-5KxAbCdEfG", "_Qz1AbCdEfG", "__z1AbCdEfG", "--help", "~home", "a.h5", "c", "rows"),
    *("Fire Kitchen (1)", "Pasta & more! [dQw4w9WgXcQ]", "it's = @ 5+5", "(1)", "[red]bold"),
    *("cr\u00eape", "\u53a8\u623f01", "\u0915\u093f\u091a\u0928", "x" * 200),
)
ODD_NAMES = (
    *("", ".", "..", ".hidden", " a", "a ", "a/b", "../a", "a\\b", "a\nb", "a\x1b[31m", "a\x00"),
    *("a,b", "a*", "a?", "a%2fb", "a#b", "a:b", "zarr.json", "attributes.json", "x" * 201),
    *("\u202ea", "\u200ba", "a\u2028", "cre\u0302pe", "\u0301a", "\udce9", "a\u00a0b"),
)


class StoreContract(TokenContract):
    """Tests of a backend: subclass it, with the fixture `store` and the method `reopen`."""

    @pytest.fixture
    def store(self) -> Store:
        """A new store of the backend, with the stream that `add_stream` makes."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """The same store as another process would open it."""
        raise NotImplementedError

    def test_labels_come_back_equal(self, store: Store) -> None:
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        again = self.reopen(store)
        found = again.labels("train").arrays()
        for name, array in SEGMENTS.arrays().items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype.kind == array.dtype.kind
        assert again.taxonomy == TAXONOMY
        assert again.taxonomy.fingerprint == TAXONOMY.fingerprint
        assert (again.dataset, again.splits()) == ("toy", ["train"])

    def test_rows_are_those_seen_at_or_before(self, store: Store) -> None:
        rows = np.zeros((9, 8), np.float16)
        store.write_features("rgb", "even", rows, start_s=0.5)
        seen = store.features("rgb", "even").rows_at([0.4, 0.5, 0.74, 0.75, 2.0])
        np.testing.assert_array_equal(seen, [-1, 0, 0, 1, 6])
        times = np.array([0.0, 0.1, 0.5, 2, 3, 4, 5, 6, 7])
        store.write_features("rgb", "uneven", rows, times=times)
        seen = store.features("rgb", "uneven").rows_at([-0.1, 0.0, 0.1, 0.49, 2.5, 99])
        np.testing.assert_array_equal(seen, [-1, 0, 1, 1, 3, 8])

    def test_rows_are_counted_in_each_form(self, store: Store) -> None:
        """Also where they fill several chunks, the last one in part; and where they are packed."""
        wide: dict[str, Any] = {"name": "wide", "dim": 1024, "dtype": "float32"}
        add_stream(store, **wide)
        add_stream(store, **wide | {"name": "packed", "compressed": True})
        counts = {"none": 0, "one": 1, "some": 7, "chunks": 2051}
        for name in ("wide", "packed"):
            for video, count in counts.items():
                store.write_features(name, video, np.ones((count, 1024), np.float32))
            assert self.reopen(store).row_counts(name) == counts
        assert store.row_counts("rgb") == {}
        with pytest.raises(MissingKey, match="flow"):
            store.row_counts("flow")

    def test_soft_targets_come_back_equal_in_both_forms(self, store: Store) -> None:
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        dense = soft_targets(folds=5)
        store.write_targets("dense", dense)
        store.write_targets("sparse", dense.top_k(2))
        for name, wanted in (("dense", dense), ("sparse", dense.top_k(2))):
            found = store.targets(name)
            assert found.arrays().keys() == wanted.arrays().keys()
            for key, array in wanted.arrays().items():
                np.testing.assert_array_equal(found.arrays()[key], array)
            assert wanted.attributes.items() <= found.attributes.items()
        assert store.target_names() == ["dense", "sparse"]

    def test_a_stream_is_removed_with_all_its_videos(self, store: Store) -> None:
        add_stream(store, name="flow")
        for video in ("v1", "v2"):
            store.write_features("rgb", video, np.ones((3, 8), np.float16))
        store.write_features("flow", "v1", np.ones((3, 8), np.float16))
        with pytest.raises(MissingKey, match="features/none"):
            store.remove("features/rgb", "features/none")
        assert store.videos("rgb") == ["v1", "v2"]
        store.remove("features/rgb")
        assert (store.streams(), store.videos("flow")) == (["flow"], ["v1"])
        with pytest.raises(MissingKey, match="no 'features/rgb'"):
            store.remove("features/rgb")
        add_stream(store, fps=5.0)  # other settings than before
        assert (store.stream("rgb").fps, store.videos("rgb")) == (5.0, [])
        store.remove("features/rgb")
        assert store.streams() == ["flow"]

    def test_nothing_is_overwritten_unasked(self, store: Store) -> None:
        rows = np.ones((3, 8), np.float16)
        store.write_features("rgb", "v1", rows)
        with pytest.raises(AlreadyExists, match="features/rgb/v1"):
            store.write_features("rgb", "v1", rows * 2)
        np.testing.assert_array_equal(store.features("rgb", "v1").read(), rows)
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        with pytest.raises(AlreadyExists, match="other labels of train"):
            store.write_labels("train", SEGMENTS[:1], TAXONOMY, source="a test")
        store.write_labels("train", SEGMENTS[:1], TAXONOMY, source="a test", overwrite=True)
        assert len(store.labels("train")) == 1

    def test_settings_of_a_stream_can_not_be_mixed(self, store: Store) -> None:
        add_stream(store)  # the same again is fine
        with pytest.raises(FingerprintMismatch, match=r"a: None -> 3, fps: 4.0 -> 2.0"):
            add_stream(store, fps=2.0, config={"a": 3})
        with pytest.raises(BadConfig, match=r"expected \(rows, 8\)"):
            store.write_features("rgb", "v1", np.zeros((3, 9), np.float16))
        assert store.videos("rgb") == []

    def test_another_dataset_or_taxonomy_is_refused(self, store: Store) -> None:
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        fields = TAXONOMY.to_dict()
        other = Taxonomy.from_dict({**fields, "dataset": "egtea"})
        with pytest.raises(FingerprintMismatch, match="expected toy, found egtea"):
            store.write_labels("validation", SEGMENTS, other, source="a test")
        renamed = Taxonomy.from_dict({**fields, "verbs": ["grab", "put"]})
        with pytest.raises(FingerprintMismatch, match="another taxonomy"):
            store.write_labels("validation", SEGMENTS, renamed, source="a test", overwrite=True)
        with pytest.raises(FingerprintMismatch, match="soft targets"):
            store.write_targets("t", soft_targets(taxonomy=renamed.fingerprint))
        assert (store.splits(), store.target_names()) == (["train"], [])

    def test_another_taxonomy_replaces_the_old_one(self, store: Store) -> None:
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        renamed = Taxonomy.from_dict({**TAXONOMY.to_dict(), "verbs": ["grab", "put"]})
        with pytest.raises(FingerprintMismatch, match="--overwrite replaces it"):
            store.write_labels("train", SEGMENTS, renamed, source="a test")
        store.write_labels("train", SEGMENTS, renamed, source="a test", overwrite=True)
        again = self.reopen(store)
        assert again.taxonomy == renamed
        assert again.labels("train").uid.tolist() == SEGMENTS.uid.tolist()

    def test_what_is_written_is_kept_as_it_was_given(self, store: Store) -> None:
        rows = np.ones((3, 8), np.float16)
        store.write_features("rgb", "v1", rows)
        rows[:] = 2
        np.testing.assert_array_equal(store.features("rgb", "v1").read(), 1)

    def test_tidying_takes_nothing_that_is_listed(self, store: Store) -> None:
        store.write_features("rgb", "v1", np.ones((3, 8), np.float16))
        store.backend.remove_leftovers()
        assert self.reopen(store).videos("rgb") == ["v1"]
        assert verify(store).intact

    def test_what_nobody_works_on_can_be_claimed(self, store: Store) -> None:
        with store.backend.claim("features/rgb/v1") as ours:
            assert ours

    def test_the_text_of_a_group_can_be_replaced_and_dropped(self, store: Store) -> None:
        store.backend.set_group_text("features/rgb", b"damaged")
        assert store.backend.group_text("features/rgb") == b"damaged"
        with pytest.raises(DamagedStore, match="features/rgb"):
            store.backend.group_attributes("features/rgb")

    def test_a_unit_keeps_what_its_group_said(self, store: Store) -> None:
        """By which a group that was damaged is restored."""
        store.write_features("rgb", "v1", np.ones((3, 8), np.float16))
        said = store.backend.group_attributes("features/rgb")
        assert store.backend.group_at_publishing("features/rgb/v1") == said

    def test_only_what_is_listed_is_removed(self, store: Store) -> None:
        store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        for key in ("features/rg", "features", "", "features/rgb/v2", "../features/rgb/v1"):
            with pytest.raises((MissingKey, DamagedStore)):
                store.remove(key)
        assert store.videos("rgb") == ["v1"]

    def test_what_lies_in_a_unit_is_none(self, store: Store) -> None:
        """An array of a Zarr unit is a folder with a `zarr.json`, as a unit is."""
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test")
        store.write_targets("count", soft_targets())
        store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        for key in ("features/rgb/v1/rows", "targets/count/uid", "labels/train/action"):
            with pytest.raises(MissingKey, match=f"the store has no '{key}'"):
                store.remove(key)
            with pytest.raises(MissingKey, match="not in the store"):
                store.backend.remove(key)
        assert not store.has_features("rgb", "v1/rows")
        with pytest.raises(MissingKey, match="not in the store"):
            store.features("rgb", "v1/rows")
        assert verify(store).intact

    def test_several_are_removed_if_all_can_be(self, store: Store) -> None:
        for video in ("v1", "v2", "v3"):
            store.write_features("rgb", video, np.zeros((3, 8), np.float16))
        keys = ("features/rgb/v1", "features/rgb/v2", "features/rgb/v1")
        with pytest.raises(MissingKey, match=r"v9'.*\(nothing was removed\)"):
            store.remove(*keys, "features/rgb/v9")
        assert store.videos("rgb") == ["v1", "v2", "v3"]
        store.remove(*keys)
        assert store.videos("rgb") == ["v3"]

    def test_labels_written_again_bring_their_many_shot_lists(self, store: Store) -> None:
        without = Taxonomy.from_dict({**TAXONOMY.to_dict(), "many_shot_actions": None})
        store.write_labels("train", SEGMENTS, without, source="a test")
        assert store.taxonomy.many_shot_actions is None
        store.write_labels("train", SEGMENTS, TAXONOMY, source="a test", overwrite=True)
        assert store.taxonomy.many_shot_actions == (0,)

    def test_missing_things_are_named_with_what_is_there(self, store: Store) -> None:
        with pytest.raises(MissingKey, match="annotations import"):
            _ = store.taxonomy
        with pytest.raises(MissingKey, match="no stream 'flow': found rgb"):
            store.stream("flow")
        with pytest.raises(MissingKey, match="features/rgb/v9"):
            store.features("rgb", "v9")
        with pytest.raises(MissingKey, match="no set of soft targets 'x': found none"):
            store.targets("x")
        with pytest.raises(BadConfig, match="not a name"):
            store.write_features("rgb", "../v1", np.zeros((3, 8), np.float16))

    def test_removed_is_gone_and_can_be_written_again(self, store: Store) -> None:
        for video in ("v1", "v2"):
            store.write_features("rgb", video, np.ones((3, 8), np.float16))
        store.remove("features/rgb/v1")
        assert store.videos("rgb") == ["v2"]
        store.write_features("rgb", "v1", np.zeros((3, 8), np.float16))
        np.testing.assert_array_equal(store.features("rgb", "v1").read(), 0)

    def test_attributes_that_two_set_at_once_are_all_kept(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = type(store.backend)
        text = kind.group_text

        def late(backend: Backend, key: str) -> bytes | None:
            found = text(backend, key)
            monkeypatch.setattr(kind, "group_text", text)
            store.backend.set_group_attributes("", {"theirs": 1})
            return found

        monkeypatch.setattr(kind, "group_text", late)
        store.backend.set_group_attributes("", {"ours": 2})
        found = store.backend.group_attributes("")
        assert (found["theirs"], found["ours"], found["antcache"]["format"]) == (1, 2, 1)

    def test_attributes_that_others_keep_changing_are_given_up(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody is waited for without end."""
        monkeypatch.setattr(type(store.backend), "_swap_group_text", lambda *_, **__: False)
        with pytest.raises(WriteFailed, match=r"features/rgb: .*other processes keep changing it"):
            store.set_gap_rule("rgb", step_s=1.0, max_age_s=None)

    def test_a_group_is_created_by_one_and_the_others_learn_what_it_says(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kind = type(store.backend)
        swap = kind._swap_group_text

        def late(backend: Backend, key: str, text: bytes, *, was: bytes | None) -> bool:
            monkeypatch.setattr(kind, "_swap_group_text", swap)
            assert store.backend.add_group_attributes("targets", {"theirs": 1}) == {"theirs": 1}
            return swap(backend, key, text, was=was)

        monkeypatch.setattr(kind, "_swap_group_text", late)
        found = store.backend.add_group_attributes("targets", {"theirs": 2, "ours": 2})
        assert found == store.backend.group_attributes("targets") == {"theirs": 1, "ours": 2}

    def test_a_group_that_is_made_and_filled_meanwhile_is_not_lost(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process does both after this one has looked for its attributes."""
        kind, add = type(store.backend), partial(add_stream, store, name="flow")
        text = kind.group_text

        def before(backend: Backend, key: str) -> bytes | None:
            if key != "features/flow":
                return text(backend, key)
            monkeypatch.setattr(kind, "group_text", text)
            add()
            store.write_features("flow", "v1", np.zeros((3, 8), np.float16))
            return None

        monkeypatch.setattr(kind, "group_text", before)
        add()
        store.remove("features/flow/v1")
        monkeypatch.setattr(kind, "group_text", before)
        assert not store.backend.group_damaged("features/flow")

    def test_names_of_videos_are_those_of_people(self, store: Store) -> None:
        """Dashes, blanks, brackets and accents: found, read, verified, replaced, removed."""
        for number, name in enumerate(VIDEO_NAMES):
            store.write_features("rgb", name, np.full((3, 8), number, np.float16))
        assert store.videos("rgb") == sorted(VIDEO_NAMES)
        again = self.reopen(store)
        for number, name in enumerate(VIDEO_NAMES):
            np.testing.assert_array_equal(again.features("rgb", name).read(), number)
            assert again.has_features("rgb", name)
            with pytest.raises(AlreadyExists, match="in the store"):
                store.write_features("rgb", name, np.zeros((3, 8), np.float16))
        assert verify(again).damaged == ()
        for name in VIDEO_NAMES:
            again.remove(f"features/rgb/{name}")
        assert again.videos("rgb") == []

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_no_video_is_called_so(self, store: Store, name: str) -> None:
        with pytest.raises(BadConfig, match="not a name for a video"):
            store.write_features("rgb", name, np.zeros((3, 8), np.float16))
        assert store.videos("rgb") == []

    def test_labels_have_the_names_of_features(self, store: Store) -> None:
        """A table has an accent in two characters, a disk may have it in one."""
        name = "cr\u00eape"
        apart = unicodedata.normalize("NFD", name)
        segments = replace(SEGMENTS, video=np.array([apart, "v1", "v2"]))
        store.write_labels("train", segments, TAXONOMY, source="a test")
        assert store.labels("train").video.tolist() == [name, "v1", "v2"]
        store.write_labels("train", segments, TAXONOMY, source="a test")  # the same labels
