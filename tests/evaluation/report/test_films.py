"""Film strips of a report: which times, which pictures, and what is said where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from antcache.errors import MissingExtra, NotFound
from antcache.evaluation.report.films import COUNT, Films, Moment, strip_times

asked: list[tuple[str, tuple[float, ...]]] = []


def pictures(video: str, times_s: Sequence[float]) -> list[str | None]:
    """Of a video of ten seconds; another is not there."""
    asked.append((video, tuple(times_s)))
    if video == "gone":
        raise NotFound("no such video", where="videos")
    return [None if time > 10 else f"data:{time:.2f}" for time in times_s]


def test_a_strip_ends_where_the_view_does_and_begins_at_zero_at_the_earliest():
    assert strip_times(9.0, 5.0) == pytest.approx([4, 5, 6, 7, 8, 9])
    assert strip_times(1.0, 5.0) == pytest.approx([0, 1])
    assert strip_times(-0.5, 5.0) == []
    assert len(strip_times(9.0, 0.0)) == 1
    assert len(strip_times(50.0, 5.0)) == COUNT


def test_each_video_is_gone_through_once_and_no_picture_is_made_up(caplog):
    asked.clear()
    told: list[tuple[str, float, float]] = []
    films = Films(pictures, progress=lambda *each: told.append(each))
    made = films.of(
        {
            1: Moment(video="v", end_s=9.0, zero_s=10.0),
            2: Moment(video="v", end_s=8.0, zero_s=9.0),
            3: Moment(video="v", end_s=14.0, zero_s=15.0),
            4: Moment(video="gone", end_s=9.0, zero_s=10.0),
            5: Moment(video="w", end_s=-1.0, zero_s=0.0),
        },
        5.0,
    )
    assert [video for video, _ in asked] == ["v", "gone"]
    assert made[1].pictures == tuple((t - 10.0, f"data:{t:.2f}") for t in (4, 5, 6, 7, 8, 9))
    assert made[2].pictures[-1] == (-1.0, "data:8.00")
    # The third begins at 9 s, of which there is a picture, but is not shown in part.
    assert [made[key].pictures for key in (3, 4, 5)] == [(), (), ()]
    assert made[3].why == "it ends before 11.0 s"
    assert "no such video" in made[4].why
    assert made[5].why == "nothing was seen before it"
    assert set(films.notes) == {"v", "gone"}
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]
    assert told[-1] == ("film strips", 3, 3)


def test_what_is_not_installed_is_no_missing_picture():
    def none(video: str, times_s: Sequence[float]) -> list[str | None]:
        raise MissingExtra("PIL", "extract")

    with pytest.raises(MissingExtra, match="PIL"):
        Films(none).of({1: Moment(video="v", end_s=9.0, zero_s=10.0)}, 5.0)
