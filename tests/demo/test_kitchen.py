"""The generated kitchen: irregular enough to be a task, and the same every time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from antcache.demo.kitchen import RECIPES, KitchenConfig, generate
from antcache.demo.render import RenderConfig, Scene, look, pose, render

SMALL = KitchenConfig(train_videos=4, validation_videos=2, scripts=30)


def test_equal_configs_give_equal_kitchens() -> None:
    one, two = generate(SMALL), generate(SMALL)
    for split in one.splits:
        for name, column in one.segments(split).arrays().items():
            np.testing.assert_array_equal(column, getattr(two.segments(split), name))
    assert all(np.array_equal(a, b) for a, b in zip(one.scripts, two.scripts, strict=True))
    other = generate(KitchenConfig(train_videos=4, validation_videos=2, scripts=30, seed=1))
    assert not np.array_equal(one.segments("train").action, other.segments("train").action)


def test_the_promised_size() -> None:
    kitchen = generate(SMALL)
    assert len(RECIPES) == 12
    assert 55 <= len(kitchen.taxonomy.actions) <= 65


def test_annotations_are_valid_and_splits_share_no_video() -> None:
    kitchen = generate(SMALL)
    train, validation = kitchen.segments("train"), kitchen.segments("validation")
    for segments in (train, validation):
        segments.check(kitchen.taxonomy, str)
        for video in segments.videos:
            chosen = segments[segments.video == video]
            assert (chosen.start_s[1:] >= chosen.stop_s[:-1]).all()
    assert not set(train.videos) & set(validation.videos)
    assert not set(train.uid) & set(validation.uid)


def test_the_next_action_is_neither_random_nor_certain() -> None:
    """A recipe is a grammar: after most actions there are a few possible next ones."""
    scripts = generate(KitchenConfig(scripts=2000)).scripts
    following: dict[int, set[int]] = {}
    for script in scripts:
        for a, b in pairwise(script):
            following.setdefault(int(a), set()).add(int(b))
    branching = [len(b) for b in following.values()]
    assert 2 < np.median(branching) < 20


def test_nouns_look_different_and_verbs_move_differently() -> None:
    taxonomy = generate(SMALL).taxonomy
    looks = {(kind, *colour) for kind, colour in (look(n, 27) for n in range(27))}
    assert len(looks) == 27
    paths = {v: tuple(pose(v, p) for p in (0.05, 0.3, 0.7, 0.95)) for v in taxonomy.verbs}
    assert len(set(paths.values())) == len(taxonomy.verbs)
    scene = Scene(taxonomy, RenderConfig(noise=0), np.random.default_rng(0))
    still = scene.frame(None, 0)
    assert all((scene.frame(a, 0.5) != still).any() for a in range(len(taxonomy.actions)))


def test_a_rendered_file_is_a_video_of_the_timeline(tmp_path: Path) -> None:
    import av

    kitchen = generate(SMALL)
    line = kitchen.splits["train"][0]
    render(line, kitchen.taxonomy, RenderConfig(), tmp_path / "v.mp4", seed=1)
    with av.open(str(tmp_path / "v.mp4")) as container:
        frames = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert frames[0][1].shape == (64, 64, 3)
    np.testing.assert_allclose([t for t, _ in frames], np.arange(len(frames)) / 10, atol=1e-6)
    assert abs(len(frames) / 10 - line.duration_s) <= 0.1
    # In the middle of the first action something is in the picture that is not there before it.
    middle = float(line.start_s[0] + line.stop_s[0]) / 2
    before, during = frames[0][1].astype(int), frames[int(middle * 10)][1].astype(int)
    assert np.abs(during - before).max() > 60
