"""Numbers that make no sense, given to every option of every command that takes a number."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from cli_commands import walk

from antcache.cli.main import cli, main
from antcache.cli.numbers import COUNT, PART, POSITIVE, SEED, Number, Several
from antcache.errors import BadConfig
from antcache.student.config import StudentConfig

NONSENSE = ("nan", "inf", "-inf", "1e30", "9" * 20, "-1", "-1e-9", "x", "", "9" * 5000)
OPTIONS = [
    (words, option)
    for words, command in walk(cli)
    for option in command.params
    if isinstance(option, click.Option)
    and (
        isinstance(option.type, Number)
        or (isinstance(option.type, Several) and isinstance(option.type.kind, Number))
    )
]


LISTS = [
    (words, option)
    for words, command in walk(cli)
    for option in command.params
    if isinstance(option, click.Option) and isinstance(option.type, Several)
]
GOOD = {"integer": "1", "float": "0.5", "start|end|float": "0.5", "text": "a"}
"""A value of each type that lists are of."""


@pytest.fixture
def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Function: the one line that a command ends with, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def line(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["antcache", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code, out, err.count("\n")) == (2, "", 1), err
        return err

    return line


@pytest.mark.parametrize(
    ("words", "option"), LISTS, ids=[f"{' '.join(w)} {o.opts[0]}" for w, o in LISTS]
)
def test_lists_have_no_holes_and_no_twins(
    refused: Callable[..., str], words: tuple[str, ...], option: click.Option
) -> None:
    several, name = option.type, option.opts[0]
    assert isinstance(several, Several)
    choices = getattr(several.kind, "choices", None)
    good = choices[0] if choices else GOOD[several.kind.name]
    for value in ("", " ", ",", f"{good},", f",{good}", f"{good},,{good}", f"{good}, ,{good}"):
        err = refused(*words, f"{name}={value}")
        assert err.startswith(f"Error: impossible {name}: expected "), value
        assert f"found '{value}'" in err
    if several.repeats:
        return
    twins = [[f"{name}={good},{good}"], [f"{name}={good} , {good}"]]
    twins += [[f"{name}={good}", f"{name}={good}"]] if option.multiple else []
    for given in twins:
        err = refused(*words, *given)
        assert err.startswith(f"Error: impossible {name}: expected each value once"), given


def test_which_lists_may_repeat_a_value() -> None:
    """Where each value has its own place."""
    assert len(LISTS) > 20
    repeating = {o.opts[0] for _, o in LISTS if isinstance(o.type, Several) and o.type.repeats}
    assert repeating == {"--levels", "--target-weights"}


def test_options_are_found() -> None:
    names = {name for _, option in OPTIONS for name in option.opts}
    asked = "--bootstrap --seed --width --layers --gap --fps-of-keys --stride --calls --num-frames"
    assert names.issuperset(asked.split())
    assert len(OPTIONS) > 80


def test_no_option_takes_numbers_of_another_type() -> None:
    """click's own let nan and numbers of any size through."""
    loose = [
        (words, option.name)
        for words, command in walk(cli)
        for option in command.params
        for kind in (option.type, getattr(option.type, "kind", None))
        if isinstance(kind, click.types.IntParamType | click.types.FloatParamType)
    ]
    assert not loose


@pytest.mark.parametrize(
    ("words", "option"), OPTIONS, ids=[f"{' '.join(w)} {o.opts[0]}" for w, o in OPTIONS]
)
def test_nonsense_is_one_line(
    refused: Callable[..., str], tmp_path: Path, words: tuple[str, ...], option: click.Option
) -> None:
    several = isinstance(option.type, Several)
    for value in NONSENSE:
        if several:
            value = f"1,{value or 'x'}"
        err = refused(*words, f"{option.opts[0]}={value}")
        assert err.startswith(f"Error: impossible {option.opts[0]}: expected "), value
        assert len(err) < 2000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (COUNT, ("1", "1000000"), ("0", "1000001", "1.0", "1.5")),
        (SEED, ("0", str(2**63 - 1)), (str(2**63),)),
        (POSITIVE, ("1e-9", "1e6"), ("0", "0.0", "-0.0")),
        (PART, ("0", "0.999"), ("1", "1.0")),
    ],
)
def test_ranges_end_where_they_say(
    kind: Number, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    for text in good:
        assert kind.convert(text, None, None) == kind.kind(text)
    for text in bad:
        with pytest.raises(BadConfig, match=f"expected {kind.expected}"):
            kind.convert(text, None, None)


LISTS = [
    (words, option)
    for words, command in walk(cli)
    for option in command.params
    if isinstance(option.type, Several)
]


@pytest.mark.parametrize(
    ("words", "option"), LISTS, ids=[f"{' '.join(w)} {o.opts[0]}" for w, o in LISTS]
)
@pytest.mark.parametrize("value", ["", " , "])
def test_an_empty_list_is_not_the_option_left_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[str, ...],
    option: click.Option,
    value: str,
) -> None:
    """`--gaps "$GAPS"` of a variable that is not set would take the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["antcache", *words, f"{option.opts[0]}={value}"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"Error: impossible {option.opts[0]}: expected ")
    assert err.endswith(f"found '{value}' (leave it out for the default)\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e30])
@pytest.mark.parametrize("name", ["weight", "lr", "dropout", "ema", "warmup_epochs", "grad_clip"])
def test_plans_of_sweeps_have_the_same_ranges(name: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"impossible {name}"):
        StudentConfig.of(**{name: value})


@pytest.mark.parametrize("name", ["epochs", "batch_size", "seed", "width", "top_k"])
def test_whole_numbers_of_plans_too(name: str) -> None:
    with pytest.raises(BadConfig, match=f"impossible {name}"):
        StudentConfig.of(**{name: 10**20})


@pytest.mark.parametrize("value", [v for v in NONSENSE if v])
@pytest.mark.parametrize(
    "line",
    [
        "student weight --paper={}@T10/C106",
        "student weight --ours=150@T{}/C106",
        "student weight --ours=150@T10/C{}",
        "bench kernel --device=cpu --shapes={}x2",
        "bench kernel --device=cpu --shapes=9999999x{}",
        "teacher train store --name=x --kind=sequence --set=epochs={}",
        "teacher train store --name=x --kind=sequence --set=lr={}",
        "teacher train store --name=x --kind=sequence --set=seed={}",
        "fuse store targets/x targets/x -o fused --weights={},1",
        "teacher ensemble store x y --name=joint --balance={}",
        "student train store --run=run --targets=x,x --target-weights={},1",
    ],
)
def test_numbers_within_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    labelled: Path,
    line: str,
    value: str,
) -> None:
    if "--weights=" in line and value in ("1e30", "9" * 20):
        pytest.skip("shares of their sum: any finite numbers will do")
    monkeypatch.chdir(labelled)
    monkeypatch.setattr(sys, "argv", ["antcache", *line.format(value).split()])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("Error: ")
    assert {path.name for path in labelled.iterdir()} <= {
        *("table", "store", "store.teachers", "store.log"),
    }
