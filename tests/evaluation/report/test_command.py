"""The command `antcache report`: what it writes, and what it refuses before the work."""

from __future__ import annotations

import re
import sys

import pytest
from click.testing import CliRunner, Result
from compared_kitchen import Kitchen

from antcache.cli.main import Root
from antcache.errors import AlreadyExists, MissingExtra, NotFound
from antcache.evaluation.report import write_report

ROOT = Root(
    name="antcache", table={"report": ("antcache.cli.evaluation.report", "Write a report.")}
)


def invoke(kitchen: Kitchen, *arguments: str) -> Result:
    return CliRunner().invoke(ROOT, ["report", str(kitchen.folder / "kitchen"), *arguments])


def test_command(kitchen: Kitchen):
    page = kitchen.folder / "report.html"
    wanted = [f"--{side}={name}" for side in "ab" for name in getattr(kitchen, side)]
    wanted += ["--over", "all", "--bootstrap", "20", "-o", str(page)]
    done = invoke(kitchen, *wanted, "--teacher", "targets/count", "--shown-classes", "3")
    assert done.exit_code == 0, done.output
    first = page.read_text("utf-8")
    again = invoke(kitchen, *wanted)
    assert again.exit_code == 2
    assert "already here" in again.stderr
    assert page.read_text("utf-8") == first
    assert invoke(kitchen, *wanted, "--overwrite").exit_code == 0
    assert page.read_text("utf-8") != first
    assert "<title>b compared with a</title>" in first
    named = ("--overwrite", "--name", "hard & fast", "--name", "soft")
    assert invoke(kitchen, *wanted, *named).exit_code == 0
    text = page.read_text("utf-8")
    assert "<title>soft compared with hard &amp; fast</title>" in text
    assert 'data-label="hard &amp; fast"' in text
    assert not re.search(r">\s*[ABab]\s*<", text)  # no letter stands for a side
    assert not list(kitchen.folder.glob(".report*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which systems?"),
        (("a0", "b0", "--a", "a0"), "which systems?"),
        (("--a", "a0", "--a", "a1", "--b", "b0"), "paired by order"),
        (("a0", "nowhere"), "no predictions here"),
        (("a0", "b0", "--name", "one"), "impossible names: expected two different ones"),
        (("a0", "b0", "--teacher", "targets/nobody"), "nobody"),
        (("a0", "b0", "--video", "nowhere"), "no segment of this video counts"),
        (("a0", "b0", "--shown-classes", "0"), "impossible classes: expected from 1"),
        (("a0", "b0", "--bootstrap", "0"), "needs resamples"),
        (("a0", "b0", "--bootstrap", "-2"), "impossible --bootstrap"),
        (("a0", "b0", "--seed", "-1"), "impossible --seed"),
        (("a0", "b0", "-o", "missing/report.html"), "no folder to write the report in"),
        (("a0", "b0", "-o", "a0"), "a folder is here"),
    ],
)
def test_bad_input_ends_with_one_line(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
):
    monkeypatch.chdir(kitchen.folder)
    before = sorted(kitchen.folder.iterdir())
    done = invoke(kitchen, "--over", "all", "--bootstrap", "20", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(kitchen.folder.iterdir()) == before


def test_outputs_are_checked_before_the_work(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch):
    nobody = ["nobody"]
    (kitchen.folder / "here.html").write_text("mine")
    with pytest.raises(AlreadyExists, match="already here"):
        write_report(kitchen.store, nobody, nobody, kitchen.folder / "here.html")
    with pytest.raises(NotFound, match="no folder"):
        write_report(kitchen.store, nobody, nobody, kitchen.folder / "x" / "y.html")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"jinja2.*antcache\[report\]"):
        write_report(kitchen.store, nobody, nobody, kitchen.folder / "new.html")
