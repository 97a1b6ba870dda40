"""The teacher folder: what was saved is what is loaded, and what does not fit is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from antcache import __version__
from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, MissingExtra, NotFound
from antcache.teacher.base import (
    ARRAYS_FILE,
    KINDS,
    SETTINGS_FILE,
    load_teacher,
    make_teacher,
    parse_settings,
)
from antcache.teacher.base import save_teacher as save
from antcache.teacher.histories import HistoryConfig
from antcache.tensors import read_tensors, write_tensors

SETTINGS = {
    "count": {"length": 5, "folds": 2},
    "sequence": {"length": 5, "attended": 2, "width": 8, "heads": 2, "layers": 1, "epochs": 1},
    "language": {"length": 5, "attended": 2, "epochs": 1, "held_out": 0.0},
    "prompted": {"length": 5, "attended": 2},
}
MODELS = {"language": "bert", "prompted": "gpt2"}
KEPT = {"language": {"model"}}
HISTORY = HistoryConfig(mode="observed", gap_s=0.5)


@pytest.fixture(params=list(KINDS))
def trained(request, taxonomy, timeline):
    settings = SETTINGS[request.param]
    if request.param in MODELS:
        pytest.importorskip("transformers")
        made = request.getfixturevalue("language_models")(MODELS[request.param])
        settings = {**settings, "model": made}
    teacher = make_teacher(request.param, taxonomy, settings)
    teacher.fit(timeline.examples(HISTORY, 5))
    return teacher


def test_what_was_saved_is_what_is_loaded(trained, timeline, taxonomy, tmp_path):
    folder = tmp_path / "deep" / "teacher"
    save(trained, HISTORY, folder)
    assert {p.name for p in folder.iterdir()} == {SETTINGS_FILE, ARRAYS_FILE} | KEPT.get(
        trained.kind, set()
    )
    assert [p.name for p in folder.parent.iterdir()] == ["teacher"]  # nothing staged is left
    settings = json.loads((folder / SETTINGS_FILE).read_text())
    assert settings["antcache"] == __version__
    assert settings["taxonomy"] == taxonomy.fingerprint
    loaded, history = load_teacher(folder, taxonomy)
    assert (loaded.kind, loaded.config, history) == (trained.kind, trained.config, HISTORY)
    examples = timeline.examples(history, 5)
    np.testing.assert_array_equal(loaded.predict(examples).logits, trained.predict(examples).logits)


def test_nothing_is_overwritten_unasked(trained, tmp_path):
    folder = tmp_path / "teacher"
    save(trained, HISTORY, folder)
    before = (folder / ARRAYS_FILE).read_bytes()
    with pytest.raises(AlreadyExists, match="already here"):
        save(trained, HISTORY, folder)
    assert (folder / ARRAYS_FILE).read_bytes() == before
    save(trained, HistoryConfig(), folder, overwrite=True)
    assert json.loads((folder / SETTINGS_FILE).read_text())["history"]["mode"] == "complete"


def test_what_is_not_a_teacher_is_never_replaced(trained, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(AlreadyExists, match="not a teacher"):
            save(trained, HISTORY, place, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_another_taxonomy_is_refused(trained, taxonomy, tmp_path):
    save(trained, HISTORY, tmp_path / "teacher")
    with pytest.raises(BadCheckpoint, match="another taxonomy"):
        load_teacher(tmp_path / "teacher", replace(taxonomy, dataset="other"))


def test_a_missing_teacher_is_named(taxonomy, tmp_path):
    with pytest.raises(NotFound, match="no teacher here"):
        load_teacher(tmp_path / "none", taxonomy)


def broken_settings(folder, **changes):
    settings = json.loads((folder / SETTINGS_FILE).read_text())
    (folder / SETTINGS_FILE).write_text(json.dumps({**settings, **changes}))


def changed(folder, name, value):
    """Every number of an array has another value: compiled loops would go where it says."""
    arrays = {k: v.copy() for k, v in read_tensors(folder / ARRAYS_FILE).tensors.items()}
    arrays[name][...] = value
    write_tensors(folder / ARRAYS_FILE, arrays)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / SETTINGS_FILE).write_text("{"), "settings can't be read"),
        (lambda f: (f / SETTINGS_FILE).write_text("[]"), "settings can't be read"),
        (lambda f: (f / SETTINGS_FILE).write_text("{}"), "settings can't be read"),
        (lambda f: broken_settings(f, format="antcache-teacher-9"), "unknown format"),
        (lambda f: broken_settings(f, kind="oracle"), "unknown kind"),
        (lambda f: broken_settings(f, history={"mode": "future"}), "unknown history"),
        (lambda f: broken_settings(f, config={"order": "four"}), "settings can't be read"),
        (lambda f: (f / ARRAYS_FILE).write_bytes(b"\x00" * 5), "learned can't be read"),
        (
            lambda f: (f / ARRAYS_FILE).write_bytes((f / ARRAYS_FILE).read_bytes()[:-9]),
            "learned can't be read",
        ),
        (lambda f: broken_settings(f, kind="sequence", config={}), "another network"),
        (lambda f: broken_settings(f, kind="sequence", config={"width": 10**6}), "another network"),
        (
            lambda f: broken_settings(f, kind="sequence", config={"layers": 10**9}),
            "impossible layers: expected from 1 to 100",
        ),
        (
            lambda f: broken_settings(f, config={"length": 10**12}),
            "impossible length: expected from 1 to 1000",
        ),
        (lambda f: broken_settings(f, config={"times": 1}), "times: wrong type: expected bool"),
        (lambda f: broken_settings(f, config=[]), "settings can't be read"),
        (lambda f: (f / SETTINGS_FILE).write_text("[" * 10**5), "nested too deeply"),
        (lambda f: changed(f, "action.0.outcomes", 9999), "counts are damaged"),
        (lambda f: changed(f, "action.1.outcomes", -1), "counts are damaged"),
        (lambda f: changed(f, "action.1.starts", 1 << 40), "counts are damaged"),
        (lambda f: changed(f, "noun.1.keys", 0), "counts are damaged"),
        (lambda f: changed(f, "verb.1.counts", 0), "counts are damaged"),
        (lambda f: changed(f, "recency.taken.0", -5), "counts are damaged: found taken.0"),
        (lambda f: changed(f, "recency.verb.1.outcomes", 9999), "counts are damaged"),
        (lambda f: changed(f, "weights", np.nan), "weights that are no shares"),
    ],
)
def test_a_broken_folder_is_refused_with_one_line(damage, words, taxonomy, timeline, tmp_path):
    teacher = make_teacher("count", taxonomy, SETTINGS["count"])
    teacher.fit(timeline.examples(HISTORY, 5))
    save(teacher, HISTORY, tmp_path / "teacher")
    damage(tmp_path / "teacher")
    with pytest.raises(BadCheckpoint, match=words) as raised:
        load_teacher(tmp_path / "teacher", taxonomy)
    assert "\n" not in str(raised.value)


def test_a_half_teacher_is_no_teacher(taxonomy, timeline, tmp_path):
    teacher = make_teacher("count", taxonomy, SETTINGS["count"])
    teacher.fit(timeline.examples(HISTORY, 5))
    save(teacher, HISTORY, tmp_path / "teacher")
    (tmp_path / "teacher" / ARRAYS_FILE).unlink()
    with pytest.raises(NotFound, match=ARRAYS_FILE):
        load_teacher(tmp_path / "teacher", taxonomy)


def test_unknown_kinds_and_settings_are_refused(taxonomy):
    with pytest.raises(BadConfig, match=r"unknown kind.*count or sequence or language.*oracle"):
        make_teacher("oracle", taxonomy)
    with pytest.raises(BadConfig, match=r"unknown settings of the count teacher: .*found epochs"):
        make_teacher("count", taxonomy, {"epochs": 3})


def test_a_missing_numba_names_the_extra(taxonomy, monkeypatch):
    for module in ("counting.teacher", "counting.ngrams", "counting.recency", "loops"):
        monkeypatch.delitem(sys.modules, f"antcache.teacher.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtra, match=r"numba.*antcache\[teacher\]"):
        make_teacher("count", taxonomy)


def test_settings_are_read_as_the_kind_types_them():
    words = ["length=9", "lr=1e-3", "warmup=0"]
    assert parse_settings("sequence", words) == {"length": 9, "lr": 1e-3, "warmup": 0.0}
    pytest.importorskip("transformers")
    words = ["memory=False", "factorized=true", "model=a=b", "revision=none", "seed=3"]
    assert parse_settings("language", words) == {
        "memory": False,
        "factorized": True,
        "model": "a=b",
        "revision": None,
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("kind", "word", "words"),
    [
        ("oracle", "a=1", "unknown kind"),
        ("count", "lr=1", "unknown settings of the count teacher: .*found lr"),
        ("count", "order", "expected NAME=VALUE, found 'order'"),
        ("count", "order=four", "order: wrong type: expected int, found 'four'"),
        ("count", "order=2.5", "expected int"),
        ("count", "order=6", "impossible order: expected from 1 to 5, found 6"),
        ("count", "length=nan", "expected int, found 'nan'"),
        ("sequence", "lr=inf", "impossible lr: .*found inf"),
        ("count", "smothing=x", "did you mean smoothing"),
        ("sequence", "lr=fast", "lr: wrong type: expected float, found 'fast'"),
        ("language", "memory=1", "memory: wrong type: expected bool, found '1'"),
    ],
)
def test_settings_that_can_not_be_read_are_refused(kind, word, words):
    if kind == "language":
        pytest.importorskip("transformers")
    with pytest.raises(BadConfig, match=words):
        parse_settings(kind, [word])
