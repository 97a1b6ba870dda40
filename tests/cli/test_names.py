"""Names that colour, forge or hide what a terminal or a page shows, through every command."""

from __future__ import annotations

import csv
import json
import logging
import re
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from antcache.cli.common import log_to, print_json, print_table, progress_bars, say
from antcache.cli.main import cli, main
from antcache.errors import BadConfig
from antcache.store import Store
from antcache.text import plain

EVIL = (
    "\x1b[31m[/red][bold]\r\x9b2J\u202e\u2066]]><script>alert(1)</script>&amp;\u2028\x85\x00\x7f"
    "\x1b]52;c;aGk=\x07\x1b]8;;http://x\x1b\\\nError: forged\udcff"
)
IN_A_TABLE = EVIL.replace("\0", "").replace("\udcff", "").replace("\r", "")
"""What a file of UTF-8 text can hold."""
VERBS = tuple(f"take {i} {IN_A_TABLE}" for i in range(3))
NOUNS = tuple(f"pan {i} {IN_A_TABLE}" for i in range(2))
VIDEOS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """`main` decides how a process warns; a test gives that back."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)


def hidden(text: str) -> list[str]:
    """The characters of a text that nobody sees, but for the ends of lines."""
    return [
        c
        for c in text.replace("\n", "")
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
    ]


def write_rows(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with annotations, a store made of them, a trained student and a teacher."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "table").mkdir()
    head = ["uid", "video", "start", "stop", "verb", "noun", f"more {IN_A_TABLE}"]
    for split in ("train", "validation"):
        rows = [
            [
                f"{split} {i} {IN_A_TABLE}",
                VIDEOS[i % 6],
                i + 1.5,
                i + 2.25,
                VERBS[i % 3],
                NOUNS[i % 2],
                "",
            ]
            for i in range(24)
        ]
        rows.append([f"{split} no video", f"none {IN_A_TABLE}", 1.5, 2.5, VERBS[0], NOUNS[0], ""])
        write_rows(folder / "table" / f"{split}.csv", [head, *rows])
    run(folder, "annotations", "import", "table", "table", "s.zarr", "--name", IN_A_TABLE)
    store = Store.open(folder / "s.zarr")
    store.create_stream("rgb", dim=4, dtype="float32", fps=4, source=EVIL[:-1], config={})
    for video in VIDEOS:
        rows = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
        store.write_features("rgb", video, rows)
    train = ("student", "train", "s.zarr", "--epochs", 2, "--allow-missing", "--width", 8)
    for name in ("run-a", f"run-b {IN_A_TABLE}"):
        run(folder, *train, "--run", name, "--num-frames", 2, "--rate", 1)
    run(folder, "teacher", "train", "s.zarr", "--name", "count")
    return folder


def run(folder: Path, *words: object, code: int = 0) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == code, (result.output, result.exception)
    assert not hidden(result.stdout + result.stderr), words
    assert not re.search("^Error: forged", result.output, re.M)
    return result


COMMANDS = [
    "annotations summary table table",
    "annotations summary table table --name {evil}",
    "store info s.zarr",
    "store verify s.zarr",
    "store repair s.zarr --dry-run",
    "store convert s.zarr t.zarr --dry-run",
    "teacher train s.zarr --name again --overwrite",
    "teacher predict s.zarr s.zarr.teachers/count --name again --overwrite",
    "teacher score s.zarr count --bootstrap 10",
    "teacher score s.zarr s.zarr.teachers/count --bootstrap 10",
    "teacher foresee s.zarr s.zarr.teachers/count --steps 1",
    "evaluate s.zarr run-a {run_b} --targets count",
    "evaluate s.zarr run-a --bootstrap 10",
    "compare s.zarr run-a {run_b} --over all --bootstrap 10 --shown-classes 5",
    "compare s.zarr run-a {run_b} --over all --bootstrap 10 --teacher targets/count",
    "fuse s.zarr run-a {run_b} --output f.safetensors --overwrite",
    "student predict s.zarr run-a --split train -o p.safetensors --overwrite",
    "student stream s.zarr run-a --calls 3",
]


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_commands(kitchen: Path, line: str, more: tuple[str, ...]) -> None:
    words = [word.format(evil=IN_A_TABLE, run_b=f"run-b {IN_A_TABLE}") for word in line.split(" ")]
    result = run(kitchen, *words, *more)
    if more:
        json.loads(result.stdout)


def test_what_is_missing_is_named(kitchen: Path) -> None:
    result = run(kitchen, "store", "doctor", "s.zarr", code=1)
    assert r"none \x1b[31m[/red][bold]" in result.stdout


def test_logs_are_one_line_a_record(kitchen: Path) -> None:
    text = (kitchen / "run-a" / "log.txt").read_text("utf-8")
    assert not hidden(text)
    assert all(re.match(r"\d{4}-\d\d-\d\d ", line) for line in text.splitlines())


@pytest.mark.parametrize(
    "line",
    [
        "store info {evil}",
        "evaluate s.zarr {evil}",
        "evaluate s.zarr run-a --split {evil}",
        "evaluate s.zarr --targets {evil}",
        "compare s.zarr {evil} run-a",
        "student train s.zarr --run {evil} --targets {evil}",
        "annotations summary table {evil}",
        "annotations summary {evil} table",
        "extract {evil} s.zarr --backbone {evil}",
        "import lmdb s.zarr rgb={evil}",
        "import arrays {evil} s.zarr --dim 2 --fps 1",
        "export arrays s.zarr --stream {evil} -o out",
        "import predictions s.zarr {evil} --name x",
        "student sweep s.zarr {evil} --runs r",
        "{evil}",
        "store {evil}",
    ],
)
def test_errors_are_one_line(
    kitchen: Path, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the console script prints them, those of click included."""
    monkeypatch.chdir(kitchen)
    words = [word.format(evil=EVIL.replace("\0", "")) for word in line.split(" ")]
    monkeypatch.setattr(sys, "argv", ["antcache", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert not hidden(out + err)
    errors = [
        text for text in err.splitlines() if not text.startswith(("Usage: ", "Try ")) and text
    ]
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    assert r"\x1b[31m" in errors[0]


def test_the_page_hides_nothing(kitchen: Path) -> None:
    title = f"title {IN_A_TABLE}"
    for number, systems in enumerate(
        (["run-a", f"run-b {IN_A_TABLE}"], [f"run-b {IN_A_TABLE}", "run-a"])
    ):
        run(
            kitchen,
            *("report", "s.zarr", *systems, "--over", "all", "--bootstrap", 10, "--title", title),
            *("--teacher", "targets/count", "-o", f"{number}.html"),
        )
        page = (kitchen / f"{number}.html").read_text("utf-8")
        assert not hidden(page.replace("\t", ""))
        assert page.count("<script") == 1  # the page's own
        assert r"\x1b[31m[/red][bold]" in page
        assert "]]&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;" in page


def test_plain() -> None:
    assert plain("cut tomato, à la ﬁn 切る\u3000x") == "cut tomato, à la ﬁn 切る\u3000x"
    assert plain("a\x1b[0m\n\u202e\ud800\U000e0041") == r"a\x1b[0m\n\u202e\ud800\U000e0041"
    assert plain(Path("a\rb")) == r"a\rb"
    for code in range(0x110000):
        character = chr(code)
        shown = plain(character)
        assert not hidden(shown)
        assert shown == character or unicodedata.category(character)[0] in "CZ"


def test_tables_are_whole_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each row, however narrow the terminal is said to be."""
    monkeypatch.setenv("COLUMNS", "40")
    long = "one quite long name after another " * 9
    print_table("[title]", ["[b]", "x"], [[f"[/b] {EVIL} {long}", 1.234], ["short", long]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[title]"
    assert [line for line in lines if "[/b]" in line and "1.23" in line and long.strip() in line]
    assert [line for line in lines if "short" in line and long.strip() in line]
    assert [line for line in lines if line.split() == ["[b]", "x"]]
    assert not hidden("".join(lines))


def test_tables_fit_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table("t", ["name", "x"], [["a long name " * 9, 1.0]])
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) == 40


def test_lines_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    print_json({EVIL: EVIL})
    out = capsys.readouterr().out
    assert not hidden(out)
    assert json.loads(out.partition("\n")[2]) == {EVIL: EVIL}
    with pytest.raises(BadConfig, match="a figure that JSON can't hold"):
        print_json({"x": float("nan")})


def test_progress_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with progress_bars() as report:
        report(EVIL, 1, 2)


def test_log_records(tmp_path: Path) -> None:
    record = logging.LogRecord("antcache.x", logging.WARNING, "x.py", 1, "%s", (EVIL,), None)
    with log_to(tmp_path / "log"):
        logging.getLogger("antcache").handlers[-1].handle(record)
    text = (tmp_path / "log").read_text("utf-8")
    assert not hidden(text)
    assert text.count("\n") == 1


def test_what_libraries_say_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["antcache", "--version"])
    with pytest.raises(SystemExit):
        main()
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning(EVIL), UserWarning, "file.py", 1)
    record = logging.LogRecord("zarr", logging.WARNING, "x.py", 1, "%s", (EVIL,), None)
    assert logging.lastResort is not None
    logging.lastResort.handle(record)
    out, err = capsys.readouterr()
    assert not out
    assert [line.startswith("Warning: \\x1b[31m") for line in err.splitlines()] == [True, True]
    assert not hidden(err)


def test_links_that_lead_to_themselves(kitchen: Path) -> None:
    (kitchen / "loop").symlink_to("loop")
    for line in (
        "store info loop",
        "store convert s.zarr loop",
        "store convert loop t.zarr",
        "annotations import table table loop",
        "evaluate s.zarr loop",
        "evaluate loop run-a",
        "student predict s.zarr loop --split train -o p2",
        "teacher predict s.zarr loop --name x",
        "import predictions s.zarr loop --name x",
        "import lmdb s.zarr obj=loop",
        "import arrays loop s.zarr --dim 2 --fps 1",
        "student sweep s.zarr loop --runs r",
        "teacher corpus loop -o c --taxonomy-from s.zarr",
    ):
        result = run(kitchen, *line.split(), code=2)
        assert len(result.stderr.strip().splitlines()) == 1, line
