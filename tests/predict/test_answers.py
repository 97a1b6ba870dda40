"""Answers in words and as data."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from antcache.errors import AlreadyExists
from antcache.predict.answers import COLUMNS, Anticipation, Anticipations, Likely, likeliest
from antcache.predict.tables import csv_table

NAMES = ("take pan", "open cupboard", "cut leek")


def answer(**changes):
    top = (
        Likely(action=0, name="take pan", probability=0.341),
        Likely(action=2, name="cut leek", probability=0.0049),
    )
    return Anticipation(**{"time_s": 12.5, "gap_s": 1.0, "top": top, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "12.5 s: in 1 s, take pan 34 %, cut leek <1 %"),
        ({"time_s": 60.0, "gap_s": 0.0}, "60 s: now, take pan 34 %, cut leek <1 %"),
        ({"anchor": 1.0}, "12.5 s: its end in 1 s, take pan 34 %, cut leek <1 %"),
        (
            {"anchor": 0.5, "time_s": 0.1 + 0.2},
            "0.3 s: the point at 0.5 of it in 1 s, take pan 34 %, cut leek <1 %",
        ),
        # What a recogniser says: it was trained on windows that end inside an action.
        ({"anchor": 0.5, "gap_s": 0.0}, "12.5 s: now, take pan 34 %, cut leek <1 %"),
        ({"anchor": 1.0, "gap_s": 0.0}, "12.5 s: its end now, take pan 34 %, cut leek <1 %"),
        ({"time_s": 123456.789}, "123456.789 s: in 1 s, take pan 34 %, cut leek <1 %"),
    ],
)
def test_words(changes, words):
    assert str(answer(**changes)) == words


def test_the_likeliest_come_first_and_of_equal_ones_the_smaller_id():
    scores = np.log(np.array([0.25, 0.5, 0.25], np.float32))
    found = likeliest(scores, NAMES, 5)
    assert [each.action for each in found] == [1, 0, 2]
    assert [each.name for each in found] == ["open cupboard", "take pan", "cut leek"]
    assert sum(each.probability for each in found) == pytest.approx(1)
    assert len(likeliest(scores, NAMES, 2)) == 2


def test_a_table_of_answers_is_data():
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32))
    found = Anticipations(
        video="v", gap_s=1.0, names=NAMES, times_s=np.array([1.0, 2.0]), scores=scores
    )
    assert len(found) == 2
    assert [each.top[0].name for each in found] == ["take pan", "cut leek"]
    told = found.to_dict(1)
    assert told["gap_s"] == 1.0
    assert told["anchor"] == "start"
    assert [each["time_s"] for each in told["answers"]] == [1.0, 2.0]
    assert told["answers"][1]["top"][0]["probability"] == pytest.approx(0.7)


def test_a_csv_has_a_row_for_each_action(tmp_path):
    path = tmp_path / "deep" / "out.csv"
    with csv_table(path) as add:
        add(answer(video="v"))
        evil = Likely(action=1, name='a,"b"\n\x1b[31m', probability=0.5)
        add(answer(video="w", time_s=13.0, top=(evil,)))
        assert not path.exists()
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1] == ["v", "12.5", "1.0", "1", "0", "take pan", "0.341"]
    assert rows[3][5] == 'a,"b"\\n\\x1b[31m'
    with pytest.raises(AlreadyExists, match=r"out\.csv"), csv_table(path):
        pass


def fail_half_way(path):
    with csv_table(path) as add:
        add(answer())
        raise RuntimeError("half way")


def test_what_fails_leaves_no_table(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())


def test_no_name_is_a_formula(tmp_path):
    """A video's stays if a store could have it, since others find it by that."""
    names = ("=cmd|' /C calc'!A0", '=HYPERLINK("http://x")', "a\tb", "take <b>")
    top = tuple(Likely(action=i, name=name, probability=0.1) for i, name in enumerate(names))
    with csv_table(tmp_path / "out.csv") as add:
        add(answer(top=top, video="-dh_uGahzYo"))
        add(answer(video='=HYPERLINK("x")'))
    rows = list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8")))
    assert [row["name"] for row in rows[:4]] == [
        "'=cmd|' /C calc'!A0",
        '\'=HYPERLINK("http://x")',
        "a\\tb",
        "take <b>",
    ]
    assert {row["video"] for row in rows[:4]} == {"-dh_uGahzYo"}
    assert {row["video"] for row in rows[4:]} == {'\'=HYPERLINK("x")'}
