"""`benchmarks/mutation.py` on a toy: what is killed is known, and what each operator makes.

The tests of the toy run in processes of `mutation_worker.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOY = '''"""A toy."""

import os, time

LIMIT = 3


def clamp(value: int, *, low: int = 0) -> int:
    """At least `low`, at most LIMIT."""
    if value < low:
        return low
    return min(value, LIMIT)


def saved(path, text):
    with open(path, "w") as file:
        file.write(text)
        os.fsync(file.fileno())


def forever(n):
    while n > 0:
        n -= 1
        time.sleep(0.001)  # who waits for ever need not be busy
    return n


def checked(n):
    if n < 0:
        raise ValueError("negative")
    return n


def compiled(n):
    return eval("n + 1")  # where no line is seen to run
'''
TESTS = """
import os, subprocess, sys
import pytest
from toy.calc import checked, clamp, forever, saved


def test_clamp():
    assert [clamp(v) for v in (-1, 0, 2, 9)] == [0, 0, 2, 3]


def test_saved_in_another_process(tmp_path):
    code = "import sys; from toy.calc import saved; saved(sys.argv[1], 'x')"
    subprocess.run([sys.executable, "-c", code, tmp_path / "f"], check=True)
    assert (tmp_path / "f").read_text() == "x"


def test_ends():
    assert forever(3) == 0


def test_checked():
    with pytest.raises(ValueError):
        checked(-1)
"""


@pytest.fixture(scope="module")
def mutants(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("mutants")


@pytest.fixture(scope="module")
def mutation(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("mutation")


@pytest.fixture
def tree(tmp_path: Path, benchmark: Callable[[str], ModuleType]) -> Any:
    files = {
        "toy/__init__.py": "",
        "toy/calc.py": TOY,
        "tests/test_calc.py": TESTS,
        "tests/test_broken.py": "import toy.calc\ndef test_broken(): assert toy.calc.clamp(1) == 2",
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n",
    }
    root = tmp_path / "tree"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    make = benchmark("mutation_tests").Tree
    pytests = tuple(name for name in sys.modules if name.startswith(("pytest", "_pytest.")))
    return make(root=root, packages={"toy": "toy"}, files=tuple(files), preload=pytests)


def made(mutants: ModuleType, source: str) -> set[tuple[str, str, str]]:
    """Operator, what is there and what stands there instead; each compiles."""
    source += "\n"
    found = mutants.mutants_of("m.py", source.encode(), errors={"BadConfig"})
    for mutant in found:
        assert mutants.compiles(mutant, source.encode()), mutant
        assert len(mutant.applied(source.encode()).splitlines()) == len(source.splitlines())
    return {(m.operator, m.before, m.after) for m in found}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {("comparison", "a < b", "(a <= b)"), ("comparison", "a < b", "(a >= b)")}),
        ("0 <= a < b", {("comparison", "0 <= a < b", "(0 < a < b)")}),
        ("a is not b", {("comparison", "a is not b", "(a is b)")}),
        ("a and b", {("and/or", "a and b", "(a or b)"), ("dropped condition", "a and b", "(a)")}),
        ("not a", {("dropped sign", "not a", "(a)")}),
        ("a + b", {("arithmetic", "a + b", "(a - b)")}),
        ("a[1]", {("off by one", "1", "2"), ("off by one", "1", "0")}),
        ("a = True", {("constant", "True", "False")}),
        ("a = 0.5", {("constant", "0.5", "1.0")}),
        ("f(a, b)", {("swapped arguments", "f(a, b)", "(f(b, a))")}),
        ("f(a, axis=b)", {("dropped keyword", "f(a, axis=b)", "(f(a))")}),
        ("os.fsync(a)", {("dropped statement", "os.fsync(a)", "pass")}),
        ("min(a, b)", {("another function", "min", "max")}),
        ("a.argmax(b)", {("another function", "a.argmax", "(a.argmin)")}),
        ("[a for a in b if a]", {("dropped filter", "a", "True")}),
        ("if a:\n    pass", {("turned condition", "a", "(not (a))")}),
        ("def f():\n    return a", {("returned None", "a", "None")}),
        ("def f(a=1):\n    pass", {("off by one", "1", "2")}),
        ("if a:\n    raise BadConfig('x', found=a + 1)", {("dropped raise",)}),
        ("try:\n    a\nexcept E:\n    b = 1\n    c = 2", {("error let through",)}),
        ("with lock:\n    pass", {("dropped with", "with lock", "if True")}),
        ("a.b = c", {("dropped statement", "a.b = c", "pass")}),
        ("a += b", {("arithmetic", "a += b", "a -= b"), ("dropped statement", "a += b", "pass")}),
        ("f(\n    a,\n    b,\n)  # why", {("swapped arguments", "f( a, b, )", "(f(b, a))")}),
    ],
)
def test_operators(mutants: ModuleType, source: str, expected: set[tuple[str, ...]]) -> None:
    found = made(mutants, source)
    for wanted in expected:
        assert [m for m in found if m[: len(wanted)] == wanted], found


@pytest.mark.parametrize(
    "source",
    [
        '"""Of 3 and 4."""',
        "a: Annotated[int, 3]",
        "def f(a: Annotated[int, 3]) -> Annotated[int, 3]: ...",
        "assert a < b",
        'f"{a + 1}"',
        "logger.info('%d', a + 1)",
        "warnings.warn(a + b)",
        "BadConfig(found=a + 1)",
        "if TYPE_CHECKING:\n    import b",
        "Text = str | bytes",
        "a + 'text'",
        "isinstance(a, b)",
        "Config(a=b)",
    ],
)
def test_what_nobody_would_notice_is_left_alone(mutants: ModuleType, source: str) -> None:
    statements = {"dropped statement"}  # a call for its own sake may matter
    assert {m for m in made(mutants, source) if m[0] not in statements} == set()


def test_a_key_survives_edits_elsewhere(mutants: ModuleType) -> None:
    later = "import this\n\n\n" + TOY
    one, two = (mutants.mutants_of("t.py", text.encode()) for text in (TOY, later))
    assert [m.key for m in one] == [m.key for m in two]
    assert len({m.key for m in one}) == len(one)
    assert {m.line + 3 for m in one} == {m.line for m in two}


def test_a_sample_is_spread_by_lines_of_code(mutants: ModuleType) -> None:
    sources = {"short.py": b"a = 1\n" * 10, "long.py": b"b = 1\n" * 90, "empty.py": b'"""Doc."""'}
    drawn = mutants.sample(sources, 40, seed=3)
    assert drawn == mutants.sample(sources, 40, seed=3) != mutants.sample(sources, 40, seed=4)
    files = [mutant.file for mutant in drawn]
    assert (files.count("short.py"), files.count("long.py")) in {(3, 37), (4, 36), (5, 35)}
    assert len({(m.file, m.line) for m in drawn}) == 40  # no line twice while there are others


@pytest.mark.slow
def test_what_is_killed_is_known(
    tree: Any,
    mutation: ModuleType,
    mutants: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a toy needs none
    possible = mutants.mutants_of("toy/calc.py", TOY.encode())
    wanted = {
        "comparison: value < low -> (value >= low)": "tests/test_calc.py::test_clamp",
        "comparison: value < low -> (value <= low)": "",  # equal: the same result
        "off by one: 3 -> 2": "tests/test_calc.py::test_clamp",
        "dropped statement: file.write(text) -> pass": (
            "tests/test_calc.py::test_saved_in_another_process"
        ),
        "dropped statement: os.fsync(file.fileno()) -> pass": "",
        "dropped statement: n -= 1 -> pass": "exit code hung",
        'dropped raise: raise ValueError("negative") -> pass': "tests/test_calc.py::test_checked",
    }
    chosen = [m for m in possible if m.key.partition(": ")[2] in wanted]
    assert len(chosen) == len(wanted)
    work = tmp_path / "work"
    before = {p: p.read_bytes() for p in tree.root.rglob("*.py")}
    outcomes = mutation.judge_all(tree, chosen, work, jobs=1, budget_s=100, limit_s=(2, 5))
    assert {o.mutant.partition(": ")[2]: o.by for o in outcomes} == wanted
    assert {p: p.read_bytes() for p in tree.root.rglob("*.py")} == before
    copy = work / "copy-0" / "toy/calc.py"
    assert copy.read_bytes() == TOY.encode()
    assert all(outcome.tests == 1 for outcome in outcomes)  # what fails anyhow is no judge

    # Again: only survivors are tried, and only after the tests have changed.
    kept = work / "outcomes.jsonl"
    mutation.judge_all(tree, chosen, work, jobs=1, budget_s=100, limit_s=(2, 5))
    assert len(kept.read_text().splitlines()) == len(wanted)
    with (tree.root / "tests/test_calc.py").open("a") as file:
        file.write(
            "\n\ndef test_synced(tmp_path, monkeypatch):\n"
            "    calls = []\n"
            "    monkeypatch.setattr(os, 'fsync', calls.append)\n"
            "    saved(tmp_path / 'f', 'x')\n"
            "    assert len(calls) == 1\n"
        )
    outcomes = mutation.judge_all(tree, chosen, work, jobs=1, budget_s=100, limit_s=(2, 5))
    survivors = [o.mutant.partition(": ")[2] for o in outcomes if o.outcome == "survived"]
    assert survivors == ["comparison: value < low -> (value <= low)"]
    assert len(kept.read_text().splitlines()) == len(wanted) + 2

    reasons = tmp_path / "survivors.json"
    (entry,) = mutation.with_reasons(outcomes, reasons)
    assert (entry["line"], entry["why"]) == (10, "")
    reasons.write_text(json.dumps([{**entry, "why": "the same result"}]))
    assert mutation.with_reasons(outcomes, reasons)[0]["why"] == "the same result"


def test_lines_that_no_test_is_seen_to_run_go_to_those_of_the_file(
    mutants: ModuleType, benchmark: Callable[[str], ModuleType]
) -> None:
    tests = benchmark("mutation_tests")

    def ran(lines: list[int], seconds: float, passed: bool = True) -> Any:
        return tests.Ran(lines={"toy/calc.py": lines}, seconds=seconds, passed=passed)

    known = {
        "tests/test_slow.py": ran([10], 50.0),
        "tests/toy/test_calc.py": ran([10, 11], 9.0),
        "tests/toy/test_other.py": ran([10], 8.0),
        "tests/test_fails.py": ran([10], 1.0, passed=False),
        "tests/test_guard.py": tests.Ran(lines={}, seconds=2.0, passed=True),
        "tests/test_elsewhere.py": tests.Ran(lines={"toy/x.py": [10]}, seconds=1.0, passed=True),
    }

    def belonging(place: str, budget_s: float = 100.0) -> list[str]:
        chosen = next(m for m in mutants.mutants_of("toy/calc.py", TOY.encode()) if place in m.key)
        return tests.belonging(chosen, known, budget_s, ["tests/test_guard.py"])

    near = ["tests/toy/test_calc.py", "tests/toy/test_other.py"]
    assert belonging("value < low") == [*near, "tests/test_slow.py"]
    assert belonging("value < low", 20.0) == near
    assert belonging("returned None: low") == near[:1]
    assert belonging("3 -> 2") == [*near, "tests/test_guard.py", "tests/test_slow.py"]
    assert belonging("value < low", 0.0) == near[:1]


def test_every_recorded_survivor_has_a_reason_or_counts(
    repo: Path, mutation: ModuleType, mutants: ModuleType
) -> None:
    """Those with a reason are not counted; one that is no longer made is no excuse."""
    entries = json.loads(mutation.SURVIVORS.read_text("utf-8"))
    assert all({"mutant", "line", "why"} == entry.keys() for entry in entries)
    errors = mutation.error_names(mutation.checkout())
    for entry in [entry for entry in entries if entry["why"]]:
        file = entry["mutant"].partition(":")[0]
        made = mutants.mutants_of(file, (repo / file).read_bytes(), errors=errors)
        assert entry["mutant"] in {mutant.key for mutant in made}


def test_the_checkout_is_what_is_judged(mutation: ModuleType, repo: Path) -> None:
    tree = mutation.checkout()
    sources = tree.sources()
    assert {"antcache/errors.py", "cli/main.py", "kernels/reference.py"} <= sources.keys()
    assert "kernels/gpu/scale.py" not in sources  # Triton
    assert "BadConfig" in mutation.error_names(tree)
    assert not [f for f in tree.files if f.startswith(("benchmarks/work", ".venv"))]
    assert tree.root == repo
