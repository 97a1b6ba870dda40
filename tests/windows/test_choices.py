"""Several windows of a segment, at gaps and anchors of their own, one of which is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from antcache.annotations import Protocol, protocol_for
from antcache.errors import BadConfig, MissingFeature
from antcache.store import Store
from antcache.windows.choices import Choices
from antcache.windows.split import SplitWindows, split_windows

MakeStore = Callable[..., Store]
OWN = protocol_for("tiny")
PAIRS = tuple(
    replace(OWN, anchor=anchor, gap_s=gap) for anchor, gap in product((0.0, 0.5), (0.5, 4.0))
)


def found(
    store: Store,
    protocol: Protocol = OWN,
    drawn: tuple[Protocol, ...] = (),
    streams: tuple[str, ...] = ("rgb",),
    **how: bool,
) -> SplitWindows:
    chosen, segments = [store.stream(name) for name in streams], store.labels("train")
    return split_windows(store, chosen, "train", segments, protocol, drawn=drawn, **how)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_is_what_it_is_alone(make_store: MakeStore) -> None:
    """Under every protocol the same rows, labels and padding as without the others."""
    store = make_store()
    together = found(store, drawn=PAIRS)
    assert len(together) == (together.drawn >= 0).sum() + (together.own >= 0).sum()
    for column, protocol in enumerate((*PAIRS, OWN)):
        alone = found(store, protocol)
        place = together.own if protocol is OWN else together.drawn[:, column]
        there = np.flatnonzero(place >= 0)
        assert together.segments.uid[there].tolist() == alone.labels.uid.tolist()
        assert together.segment[place[there]].tolist() == there.tolist()
        np.testing.assert_array_equal(together.streams[0].rows[place[there]], alone.streams[0].rows)
        for name, values in vars(together.labels[place[there]]).items():
            np.testing.assert_array_equal(values, getattr(alone.labels, name), err_msg=name)


def test_what_is_too_early_for_one_has_the_others(make_store: MakeStore) -> None:
    """Segments of 3 s: before the second, 4 s back there is nothing, and half a second there is."""
    windows = found(make_store(), drawn=PAIRS)
    second = windows.segments.uid == "t0_1"
    assert (windows.drawn[second][0] >= 0).tolist() == [True, False, True, True]
    first = windows.segments.uid == "t0_0"  # of its middle only the short gap has a frame
    assert (windows.drawn[first][0] >= 0).tolist() == [False, False, True, False]
    assert windows.own[first].tolist() == [-1]
    assert not windows.dropped
    dropped = found(make_store("other"), drawn=PAIRS[:2]).dropped
    assert dropped == {"too_early": tuple(f"t{v}_0" for v in range(6))}


def test_windows_that_are_not_scored_need_no_features(make_store: MakeStore) -> None:
    store = make_store()
    windows = found(store, drawn=PAIRS[:2], scored=False)
    assert (windows.own == -1).all()
    assert len(windows) == (windows.drawn >= 0).sum()
    own = found(store, drawn=(OWN, PAIRS[0]), scored=True)
    np.testing.assert_array_equal(own.own, own.drawn[:, 0])
    assert len(own) == (own.drawn >= 0).sum()  # none twice


def short(store: Store, video: str, rows: int) -> None:
    """A video whose features end early."""
    features = store.features("rgb", video).read()[:rows]
    store.remove(f"features/rgb/{video}")
    store.write_features("rgb", video, features)


def test_a_missing_window_names_its_gap(make_store: MakeStore) -> None:
    """The last segment of t2 starts at 21 s: 20.5 s is there no more, and 17 s is."""
    store = make_store()
    short(store, "t2", 4 * 19)
    said = r"split train, gap 0.5 s, anchor start: 1 of 48 segments .*short_features 1.*t2 \(1\)"
    with pytest.raises(MissingFeature, match=said):
        found(store, drawn=PAIRS)
    windows = found(store, drawn=PAIRS, allow_missing=True)
    last = windows.segments.uid == "t2_7"
    assert (windows.drawn[last][0] >= 0).tolist() == [False, True, False, True]
    assert windows.own[last].tolist() == [-1]
    assert not windows.dropped


def test_a_path_may_be_written_in_any_way(make_store: MakeStore) -> None:
    store = make_store("odd {0} {}")
    short(store, "t2", 4 * 19)
    with pytest.raises(MissingFeature, match=r"odd \{0\} \{\}: features/rgb, split train, gap 0.5"):
        found(store, drawn=PAIRS)


def test_a_segment_that_has_none_is_dropped(make_store: MakeStore) -> None:
    store = make_store()
    short(store, "t2", 4 * 15)
    windows = found(store, drawn=PAIRS[:2], allow_missing=True)
    assert "t2_7" not in windows.segments.uid
    assert windows.dropped["short_features"] == ("t2_7",)  # t2_6 still has its 14 s
    assert (windows.drawn >= 0).any(axis=1).all()


def test_a_gap_that_no_segment_has_is_refused(make_store: MakeStore) -> None:
    """Also where windows may be missing: nobody asked for the other gaps alone."""
    drawn = (PAIRS[0], replace(OWN, gap_s=100.0))
    said = r"split train, gap 100 s, anchor start: no segment has a window: found too_early 48"
    with pytest.raises(BadConfig, match=said):
        found(make_store(), drawn=drawn, allow_missing=True)


def test_every_stream_has_the_same_ones(make_store: MakeStore) -> None:
    """A video that one stream lacks for one gap has no such window in the other either."""
    store = make_store()
    store.create_stream("flow", dim=3, dtype="float16", fps=2.0, source="made up", config={})
    for video in store.videos("rgb"):
        seconds = 19 if video == "t2" else 24
        rows = np.random.default_rng(0).standard_normal((2 * seconds, 3))
        store.write_features("flow", video, rows.astype(np.float16))
    windows = found(store, drawn=PAIRS, streams=("rgb", "flow"), allow_missing=True)
    last = windows.segments.uid == "t2_7"
    assert (windows.drawn[last][0] >= 0).tolist() == [False, True, False, True]
    alone = found(store, PAIRS[1], streams=("rgb", "flow"))
    place = windows.drawn[windows.drawn[:, 1] >= 0, 1]
    for several, single in zip(windows.streams, alone.streams, strict=True):
        np.testing.assert_array_equal(several.rows[place], single.rows)


def test_which_protocol_is_which_is_part_of_the_fingerprint(make_store: MakeStore) -> None:
    store = make_store()
    there, back = found(store, drawn=PAIRS[:2]), found(store, drawn=PAIRS[1::-1])
    assert there.fingerprint != back.fingerprint
    assert there.fingerprint == found(store, drawn=PAIRS[:2]).fingerprint


def choices() -> Choices:
    """Segments with three, one and two windows."""
    windows = np.array([[0, 1, 2], [-1, 3, -1], [4, -1, 5]])
    return Choices.of(windows, np.array([1, -1, 5]))


def test_only_what_there_is_is_drawn_and_each_as_often() -> None:
    """Of 30,000 draws each of k windows gets 1 / k, within 5 deviations of a binomial."""
    each = torch.arange(3).repeat(30_000)
    drawn = choices().draw(each, generator()).view(-1, 3)
    for segment, windows in enumerate(([0, 1, 2], [3], [4, 5])):
        found, counts = drawn[:, segment].unique(return_counts=True)
        assert found.tolist() == windows
        share = 1 / len(windows)
        near = 5 * (share * (1 - share) / 30_000) ** 0.5
        assert ((counts / 30_000 - share).abs() <= near).all()
    assert choices().first.tolist() == [0, 3, 4]


def test_the_generator_decides_alone() -> None:
    order = torch.arange(3).repeat(50)
    one, other = (choices().draw(order, generator(seed)) for seed in (1, 2))
    assert not torch.equal(one, other)
    assert torch.equal(one, choices().draw(order, generator(1)))
    torch.manual_seed(1)
    assert torch.equal(one, choices().draw(order))


def test_an_only_window_draws_nothing() -> None:
    """What was trained before windows were drawn is trained to the same bits."""
    used = generator()
    assert Choices.only(4).draw(torch.tensor([2, 0]), used).tolist() == [2, 0]
    assert torch.equal(used.get_state(), generator().get_state())
