"""`antcache predict`: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from click.testing import CliRunner
from predict_kitchen import extracted, trained, write_coloured

from antcache.annotations import Taxonomy
from antcache.cli.main import cli, main
from antcache.extract import load_backbone


@pytest.fixture(scope="module")
def run(made, vit, tmp_path_factory) -> Path:
    """A run whose backbone is a folder that is here."""
    extracted(made, load_backbone(vit, device="cpu"), "cli")
    return trained(made, tmp_path_factory.mktemp("runs") / "plain", "cli")


@pytest.fixture
def ask(run, monkeypatch, capsys):
    """Function: runs the command; exit code, stdout and stderr."""

    def asked(*words, student=run):
        line = ["antcache", "predict", *map(str, words), "--student", str(student)]
        monkeypatch.setattr("sys.argv", [*line, "--device", "cpu"])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return asked


def refused(result, *words):
    """One line that says these words, exit code 2."""
    code, out, err = result
    assert code == 2, err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err, err
    return out


def test_says_what_comes_next(ask, made, tmp_path, monkeypatch):
    """In words, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    before = sorted(made.folder.iterdir())
    code, out, err = ask(made.folder / "even.mp4", "--every", "2", "--top", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{t} s" for t in (2, 4, 6, 8, 10)]
    assert all(line.partition(": ")[2].startswith("in 0.5 s, ") for line in lines)
    assert all(line.count("%") == 2 for line in lines)
    assert not list(tmp_path.iterdir())
    assert sorted(made.folder.iterdir()) == before


def test_data_of_several_videos(ask, made, tmp_path):
    code, out, _ = ask(made.folder, "--every", "2.5", "--json")
    told = json.loads(out)
    assert code == 0
    assert [each["video"] for each in told["videos"]] == ["even", "held", "odd"]
    for each in told["videos"]:
        assert (each["gap_s"], each["anchor"], each["unanswered"]) == (0.5, "start", [])
        for answer in each["answers"]:
            assert len(answer["top"]) == 4  # there are no more classes
            assert sum(one["probability"] for one in answer["top"]) == pytest.approx(1, abs=1e-5)
    table = tmp_path / "t.csv"
    code, out, _ = ask(made.folder, "--every", "2.5", "--csv", table)
    assert code == 0
    assert out == f"{table}: 10 times of 3 videos\n"
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(rows) == 40
    assert {row["video"] for row in rows} == {"even", "odd", "held"}
    refused(ask(made.folder, "--csv", table), "t.csv", "--overwrite")
    code, _, _ = ask(made.folder / "odd.mkv", "--at", "5", "--csv", table, "--overwrite")
    assert code == 0
    assert len(table.read_text().splitlines()) == 5


def test_times_that_are_not_there_are_said(ask, made):
    even = made.folder / "even.mp4"
    out = refused(ask(even, "--at", "5,60"), "even: no such time", "60 s", "last frame is at 11.96")
    assert out.startswith("5 s: in 0.5 s, ")
    refused(ask(even, "--at", "0"), "no such time", "nothing was seen before it")
    late = ",".join(str(20 + n / 10) for n in range(3000))
    refused(ask(even, "--at", f"5,{late}"), "no such times: found 3000, the first 20 s: after the")
    _, out, err = ask(even, "--at", f"0,5,{late}", "--json")  # a line for each reason, and all data
    assert err.count("\n") == 2
    assert len(json.loads(out)["videos"][0]["unanswered"]) == 3001
    code, out, err = ask(even, made.folder / "held.mp4", "--at", "10")
    assert code == 1
    assert out.startswith("even, 10 s: ")
    assert err.count("\n") == 1
    assert "held: no such time" in err


def test_bad_words_are_refused(ask, made, tmp_path):
    even = made.folder / "even.mp4"
    refused(ask(even, "--at", "5", "--every", "1"), "--every and --at exclude each other")
    refused(ask(even, "--every", "0"), "--every")
    refused(ask(even, "--every", "100"), "even", "last frame is at 11.96 s", "--every")
    refused(ask(tmp_path / "nothing.mp4"), "nothing.mp4", "no such file")
    refused(ask(tmp_path), "no videos here")
    (tmp_path / "text.mp4").write_text("no video")
    refused(ask(tmp_path / "text.mp4"), "text.mp4")
    refused(ask(even, student=tmp_path / "nobody"), "no such folder")
    refused(ask(even, student=tmp_path), "no run here")
    other = tmp_path / "even.mp4"
    shutil.copy(even, other)
    refused(ask(even, other), "two videos of one name")


def test_a_video_that_fails_does_not_stop_others(ask, made, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    code, out, err = ask(tmp_path / "bad.mp4", made.folder / "even.mp4", "--at", "5")
    assert code == 1
    assert out.startswith("even, 5 s: ")
    assert err.count("\n") == 1
    assert "bad.mp4" in err


def test_a_video_shorter_than_the_window_is_padded(ask, video, tmp_path):
    short = write_coloured(
        video.write, tmp_path / "a b#.mp4", [Fraction(i, 25) for i in range(10)], 1
    )
    code, out, _ = ask(short, "--every", "0.1")
    assert code == 0
    assert [line.split(" s:")[0] for line in out.splitlines()] == ["0.1", "0.2", "0.3"]


def test_backbones_that_do_not_fit_are_refused(
    ask, run, made, vit, videomae, models, small, tmp_path, capsys
):
    """Of another fingerprint, gone, of one's own, or named by nobody."""
    from transformers import ViTConfig, ViTModel

    even = made.folder / "even.mp4"
    torch.manual_seed(7)
    other = models.save(tmp_path / "other", ViTModel(ViTConfig(**small, patch_size=8)))
    capsys.readouterr()
    refused(ask(even, "--backbone", other), "weights", "other rows than those")
    refused(ask(even, "--backbone", videomae), "family: 'vit' -> 'videomae'")
    refused(ask(even, "--backbone", tmp_path / "gone"), "gone")
    assert ask(even, "--backbone", vit, "--at", "3")[0] == 0

    def changed(name, **values):
        copy = tmp_path / name
        shutil.copytree(run, copy)
        account = json.loads((copy / "config.json").read_text())
        account |= values
        (copy / "config.json").write_text(json.dumps(account))
        return copy

    moved = changed("moved", **{"stream sources": ["/nowhere/vit"]})
    refused(ask(even, student=moved), "backbone is not here", "/nowhere/vit", "--backbone")
    assert ask(even, "--backbone", vit, "--at", "3", student=moved)[0] == 0
    code = changed("code", **{"stream sources": ["antcache.nothing:run_me"]})
    refused(ask(even, student=code), "only if it is named", "antcache.nothing:run_me")
    nameless = changed("nameless", **{"stream sources": [""]})
    refused(ask(even, student=nameless), "does not say which backbone", "--backbone")
    settings = json.loads((run / "config.json").read_text())["stream settings"][0]
    forged = changed("forged", **{"stream settings": [{**settings, "fps": 3.0}]})
    refused(ask(even, student=forged), "fingerprint")


def test_classes_of_older_runs_come_from_a_store(ask, run, made, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    account = json.loads((old / "config.json").read_text())
    del account["classes"]
    (old / "config.json").write_text(json.dumps(account))
    even = made.folder / "even.mp4"
    refused(ask(even, student=old), "did not keep its classes")
    mine, theirs = (
        ask(even, "--at", "4", student=run),
        ask(even, "--at", "4", "--labels", made.store.path, student=old),
    )
    assert mine == theirs
    assert mine[0] == 0


def test_a_page_and_a_film_are_written(ask, made, tmp_path):
    even, page, film = made.folder / "even.mp4", tmp_path / "p.html", tmp_path / "f.mp4"
    words = ("--every", "1", "--labels", made.store.path, "--html", page, "--video", film)
    code, out, err = ask(even, *words)
    assert code == 0, err
    assert out.splitlines() == [f"{each}: 11 times of 1 videos" for each in (page, film)]
    text = page.read_text("utf-8")
    assert "11 answers from 0:01.0 to 0:11.0" in text
    assert "Of 11 whose next action is labelled" in text
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 300
    before = film.read_bytes()
    refused(ask(even, "--video", film), "f.mp4", "--overwrite")
    assert film.read_bytes() == before
    refused(ask(even, "--video", tmp_path / "f.avi"), "f.avi", ".mp4 or .mkv")
    refused(ask(made.folder, "--video", tmp_path / "g.mp4"), "--video takes one VIDEO")
    refused(ask(even, "--csv", page, "--html", page), "impossible file to write")
    refused(ask(even, "--html", tmp_path / "q.html", "--labels", tmp_path / "no"), "no")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["f.mp4", "p.html"]


def test_no_video_that_is_asked_about_is_replaced(ask, made, tmp_path):
    """Not under another name for it, and not with --overwrite either."""
    film = tmp_path / "film.mp4"
    shutil.copy(made.folder / "even.mp4", film)
    before = film.read_bytes()
    (tmp_path / "way").mkdir()
    for option in ("--csv", "--html", "--video"):
        for name in (film, tmp_path / "way" / ".." / "film.mp4"):
            refused(ask(film, option, name, "--overwrite"), "film.mp4", "one of the videos")
            assert film.read_bytes() == before
    same = tmp_path / "way" / ".." / "same"
    refused(ask(film, "--csv", tmp_path / "same", "--html", same), "impossible file to write")


def test_without_answers_there_is_no_page_and_no_film(ask, made, tmp_path):
    even, page, film = made.folder / "even.mp4", tmp_path / "p.html", tmp_path / "f.mp4"
    out = refused(ask(even, "--at", "60", "--html", page, "--video", film), "no such time")
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_an_impossible_gap_is_not_the_runs_fault(ask, made):
    refused(ask(made.folder / "even.mp4", "--max-gap", "0"), "impossible --max-gap", "above 0")


def test_help_is_short_of_nothing():
    done = CliRunner().invoke(cli, ["predict", "--help"])
    assert "--student RUN" in done.output


def test_whatever_actions_are_called(ask, run, made, tmp_path):
    """Names as long as they may be, from right to left, of markup, of pictures and of formulas."""
    names = (
        ("=cmd|' /C calc'!A0 " * 20)[:250],
        "<script>alert(1)</script>",
        "\u202eفتح 🍳",
        "\x1b[31m",
    )
    strange = tmp_path / "strange"
    shutil.copytree(run, strange)
    account = json.loads((strange / "config.json").read_text())
    account["classes"]["actions"] = list(names)
    account["taxonomy"] = Taxonomy.from_dict(account["classes"]).fingerprint
    (strange / "config.json").write_text(json.dumps(account))
    even = made.folder / "even.mp4"
    page, film, table = (tmp_path / f"out.{ending}" for ending in ("html", "mp4", "csv"))
    words = (even, "--every", "4", "--html", page, "--video", film, "--csv", table)
    code, _, err = ask(*words, student=strange)
    assert (code, err) == (0, "")
    text = page.read_text("utf-8")
    assert "<script>" not in text
    assert not set("\u202e\x1b") & set(text + table.read_text("utf-8"))
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert {row["name"] for row in rows} == {
        "'" + names[0],
        names[1],
        r"\u202eفتح 🍳",
        r"\x1b[31m",
    }
    with av.open(str(film)) as made_film:
        assert made_film.streams.video[0].height > 0
    code, out, _ = ask(even, "--at", "4", student=strange)
    assert code == 0
    assert out.count("\n") == 1
    assert not set("\u202e\x1b") & set(out)
    _, out, _ = ask(even, "--at", "4", "--json", student=strange)
    assert {each["name"] for each in json.loads(out)["videos"][0]["answers"][0]["top"]} == {*names}
