"""The import rules of the architecture, read from the imports themselves."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = {"antcache": "antcache", "kernels": "antcache.kernels", "cli": "antcache.cli"}
BASE = {"errors", "files", "timebase", "progress", "devices", "tensors", "hub"}
BASE |= {"annotations", "checks", "cluster", "exports", "settings", "text", "untrusted"}
BUILDERS_AND_LEARNER = {"extract", "teacher", "student"}
# Who may import whom: part -> parts of the package that it may name.
ALLOWED = {
    "errors": {"text"},
    "clone": set(),
    "cluster": {"errors"},
    "exports": set(),
    "checks": {"errors"},
    "settings": {"checks", "errors"},
    "progress": set(),
    "text": set(),
    "untrusted": {"errors"},
    "devices": {"errors"},
    "files": {"errors", "files"},
    "tensors": {"untrusted"},
    "hub": {"errors", "untrusted"},
    "timebase": {"errors"},
    "annotations": BASE,
    "store": BASE | {"store"},
    "interop": BASE | {"store", "interop"},
    "kernels": BASE | {"kernels"},
    "evaluation": BASE | {"store", "kernels", "evaluation"},
    "extract": BASE | {"store", "kernels", "evaluation", "extract"},
    "teacher": BASE | {"store", "interop", "kernels", "evaluation", "teacher"},
    "windows": BASE | {"store", "kernels", "windows"},
    "student": BASE | {"store", "kernels", "windows", "evaluation", "student"},
    "doctor": BASE | {"store", "windows", "doctor"},
    "demo": BASE | {"store", "kernels", "evaluation", "demo"} | BUILDERS_AND_LEARNER,
}
ALLOWED["serving"] = {"errors", "serving"}
ALLOWED["predict"] = ALLOWED["demo"] - {"demo"} | {"windows", "serving", "predict"}
ALLOWED["browse"] = {*ALLOWED["predict"], "doctor", "browse"}
ALLOWED["demo"] |= {"predict"}
ALLOWED["cli"] = {*ALLOWED, "cli"}
ALLOWED["__main__"] = {"cli"}
ALLOWED["testing"] = BASE | {"store", "testing"}
ALLOWED["api"] = BASE | {"store", "windows", "evaluation"}


@functools.cache
def tree_of(file: Path) -> ast.Module:
    """A file as Python reads it."""
    return ast.parse(file.read_text("utf-8"))


@functools.cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Everything in a file."""
    return tuple(ast.walk(tree_of(file)))


@pytest.fixture(autouse=True, scope="module")
def _forgotten() -> Iterator[None]:
    """What was read is kept for these tests alone: it is large."""
    yield
    for each in (tree_of, nodes_of, imports):
        each.cache_clear()


def modules(repo: Path) -> Iterator[tuple[str, Path]]:
    """Import name and file of every module of the package."""
    for folder, name in FOLDERS.items():
        for file in sorted((repo / folder).rglob("*.py")):
            parts = file.relative_to(repo / folder).with_suffix("").parts
            yield ".".join([name, *(p for p in parts if p != "__init__")]), file


@functools.cache
def imports(file: Path) -> list[str]:
    """Absolute names that a file imports, those under `if TYPE_CHECKING` left out."""
    skipped = {
        id(node)
        for block in nodes_of(file)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = []
    for node in nodes_of(file):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def part(name: str) -> str:
    """The part of the package that a dotted name belongs to, '' for the package itself."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def test_parts_import_only_what_they_may(repo: Path) -> None:
    wrong = []
    seen = set()
    for name, file in modules(repo):
        mine = part(name)
        seen.add(mine)
        if not mine:
            continue
        for imported in imports(file):
            if imported.split(".")[0] != "antcache":
                continue
            theirs = part(imported)
            if theirs not in ALLOWED[mine] | {"__version__", ""}:
                wrong.append(f"{file.relative_to(repo)} imports {imported}")
    assert not wrong
    assert {"store", "extract", "teacher", "student", "kernels", "cli"} <= seen


# Rooms of the store -> rooms that they may name; "" is what lies in none.
ROOMS = {
    "reading": {"reading"},
    "local": {"reading", "local"},
    "remote": {"reading", "remote"},
    "": {"", "reading", "local", "remote"},
    "integrity": {"", "reading", "local", "remote", "integrity"},
}
CONTRACT = {"backend", "faults", "features", "format", "location", "seal", "zarr_unit"}
"""What rooms below `Store` may name of the rest of it."""


def test_rooms_of_the_store_import_only_what_they_may(repo: Path) -> None:
    names = {name for name, _ in modules(repo)}

    def room(name: str) -> tuple[str, str]:
        """The room of the module of the store that is named, and the module's name in it."""
        while name not in names:
            name = name.rpartition(".")[0]
        above, _, module = name.removeprefix("antcache.store").lstrip(".").rpartition(".")
        return (module, "") if module in ROOMS else (above, module)

    wrong = []
    for name, file in modules(repo):
        if not name.startswith("antcache.store"):
            continue
        mine, _ = room(name)
        for imported in imports(file):
            if not imported.startswith("antcache.store"):
                continue
            theirs, module = room(imported)
            below = mine in ("", "integrity") or module in CONTRACT
            if theirs not in ROOMS[mine] | ({""} if below else set()):
                wrong.append(f"{name} imports {imported}")
    assert not wrong


def test_no_module_imports_itself_by_way_of_others(repo: Path) -> None:
    files = dict(modules(repo))
    graph = {
        name: {
            own
            for imported in imports(file)
            if (own := imported if imported in files else imported.rpartition(".")[0]) in files
        }
        - {name}
        for name, file in files.items()
        if name != "antcache"  # its door, `Store`, opens when it is asked for
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises, and names the circle


WRITERS = {
    "antcache.files.disk",
    "antcache.files.atomic",
    "antcache.store.local.folder",
    "antcache.store.local.staging",
}
"""Who gives names to what is written; a store stages inside itself."""


def names_something(call: ast.Call) -> bool:
    """Whether a call renames a file, or waits for the disk."""
    name = ast.unparse(call.func)
    method = name.rpartition(".")[2]
    if name in ("os.rename", "os.replace", "os.link", "os.fsync", "shutil.move"):
        return True
    # Text and dataclasses are replaced with two arguments, or by names; a path with one.
    one = len(call.args) == 1 and not call.keywords
    return "." in name and one and method in ("rename", "replace", "hardlink_to")


def test_one_module_writes_files_and_folders_as_a_whole(repo: Path) -> None:
    """Nothing else renames, syncs, or names what it stages by its process."""
    wrong = []
    for name, file in modules(repo):
        for node in nodes_of(file):
            if not isinstance(node, ast.Call):
                continue
            own = name in WRITERS
            connections = name.startswith("antcache.store.remote.")
            if (names_something(node) and not own) or (
                ast.unparse(node.func) == "os.getpid" and not connections
            ):
                wrong.append(f"{file.relative_to(repo)}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert not wrong


def test_the_tests_are_of_this_checkout(repo: Path) -> None:
    """Here and in the processes that tests start: another checkout's code would pass unseen."""
    code = f"import {', '.join(FOLDERS.values())}; print(*antcache.__path__, "
    code += "*antcache.kernels.__path__, *antcache.cli.__path__, sep='\\n')"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    ).stdout.splitlines()
    here = [p for name in FOLDERS.values() for p in importlib.import_module(name).__path__]
    assert here == elsewhere == [str(repo / folder) for folder in FOLDERS]


def test_chance_has_a_seed(repo: Path) -> None:
    """Generators are made with one; `random` and torch get theirs before each test."""
    files = [f for part in (*FOLDERS, "tests", "benchmarks") for f in (repo / part).rglob("*.py")]
    wrong = [
        f"{file.relative_to(repo)}:{node.lineno}"
        for file in files
        for node in nodes_of(file)
        if isinstance(node, ast.Call)
        and not node.args
        and ast.unparse(node.func).endswith(("default_rng", "random.Random"))
    ]
    assert not wrong


def test_no_bare_import_of_kernels_or_cli(repo: Path) -> None:
    """A bare `import kernels` would find a second copy of our folder."""
    files = [*(f for _, f in modules(repo)), *(repo / "tests").rglob("*.py")]
    files += (repo / "benchmarks").rglob("*.py")
    wrong = [
        f"{file}: {name}"
        for file in files
        for name in imports(file)
        if name.split(".")[0] in ("kernels", "cli")
    ]
    assert not wrong
    assert not list((repo / "tests").rglob("__init__.py"))


def test_nothing_is_overwritten_unasked(repo: Path) -> None:
    """A parameter `overwrite` is false or has to be given, wherever it is."""
    asked = [
        (file.relative_to(repo), node.name, ast.unparse(default) if default else None)
        for _, file in modules(repo)
        for node in nodes_of(file)
        if isinstance(node, ast.FunctionDef)
        for name, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if name.arg == "overwrite"
    ]
    assert not [one for one in asked if one[-1] not in (None, "False")]
    assert len(asked) > 10


# Dataclasses that count or gather while something goes on.
CHANGING = {"ExtractionTally", "UnitCopy", "_Patient", "Result", "ExaminedStream", "VideoFacts"}


def test_dataclasses_are_frozen_and_settings_and_reports_take_keywords(repo: Path) -> None:
    made = {
        node.name: ast.unparse(decorator)
        for _, file in modules(repo)
        for node in nodes_of(file)
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
        if "dataclass" in ast.unparse(decorator)
    }
    assert {name for name, how in made.items() if "frozen=True" not in how} <= CHANGING
    settings = {name for name in made if name.endswith(("Config", "Plan", "Report"))}
    assert not [name for name in settings if "kw_only=True" not in made[name]]
    assert len(settings) > 30


def test_library_code_never_prints(repo: Path) -> None:
    wrong = [
        f"{file.relative_to(repo)}:{node.lineno}"
        for name, file in modules(repo)
        if part(name) != "cli"
        for node in nodes_of(file)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "exit")
    ]
    assert not wrong


def test_commands_print_in_one_place(repo: Path) -> None:
    """What commands say goes through `cli/common.py`, which makes it plain; errors through `main`,
    an interrupt and what is logged through `command`."""
    wrong = [
        f"{file.relative_to(repo)}:{node.lineno}"
        for file in sorted((repo / "cli").rglob("*.py"))
        if file.name not in ("common.py", "main.py", "command.py")
        for node in nodes_of(file)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).split(".")[-1] in ("print", "echo", "secho", "echo_via_pager")
    ]
    wrong += [
        f"{file.relative_to(repo)} imports {name}"
        for file in sorted((repo / "cli").rglob("*.py"))
        if file.name != "common.py"
        for name in imports(file)
        if name.split(".")[0] == "rich"
    ]
    assert not wrong


def test_no_pickle(repo: Path) -> None:
    """No module imports pickle, and torch.load stands nowhere without weights_only=True."""
    for name, file in modules(repo):
        assert "pickle" not in {i.split(".")[0] for i in imports(file)}, name
        for node in nodes_of(file):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), file
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                assert "allow_pickle=True" not in ast.unparse(node), file


def test_every_module_says_what_it_promises(repo: Path) -> None:
    silent = [name for name, f in modules(repo) if not ast.get_docstring(tree_of(f))]
    assert not silent


def test_files_stay_small(repo: Path) -> None:
    lengths = {
        str(file.relative_to(repo)): len(file.read_text("utf-8").splitlines())
        for _, file in modules(repo)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > 500}
    assert statistics.median(lengths.values()) < 160


MOST_FILES = dict.fromkeys(FOLDERS, 16) | {"tests": 32}
"""Of its own; a module may have several files of tests, and benchmarks lie in one folder."""
MIRRORED = ("annotations", "demo", "doctor", "evaluation", "extract", "interop", "store")
MIRRORED += ("teacher", "windows")
"""Parts whose tests lie in the same rooms."""


@pytest.mark.parametrize("top", MOST_FILES)
def test_folders_have_rooms(repo: Path, top: str) -> None:
    """Few files of its own in each folder."""
    folders = Counter(file.parent for file in (repo / top).rglob("*.py"))
    crowded = {str(at.relative_to(repo)): n for at, n in folders.items() if n > MOST_FILES[top]}
    assert not crowded
    assert len(folders) > 1


def test_tests_lie_in_the_same_rooms(repo: Path) -> None:
    rooms = {
        file.parent.relative_to(repo / "antcache")
        for part in MIRRORED
        for file in (repo / "antcache" / part).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert not [str(room) for room in rooms if not list((repo / "tests" / room).glob("test_*.py"))]
    assert len(rooms) > 2 * len(MIRRORED)


def test_a_class_name_has_one_meaning(repo: Path) -> None:
    """None is defined twice, private or not, but to extend the one that is called so."""
    files = [*(file for _, file in modules(repo)), *(repo / "benchmarks").glob("*.py")]
    places: dict[str, list[str]] = {}
    for file in files:
        for node in nodes_of(file):
            if not isinstance(node, ast.ClassDef):
                continue
            if node.name not in {ast.unparse(base).rpartition(".")[2] for base in node.bases}:
                places.setdefault(node.name.lstrip("_"), []).append(f"{file}:{node.lineno}")
    assert not {name: at for name, at in places.items() if len(at) > 1}
    assert len(places) > 300


HEAVY = ("torch", "transformers", "av", "triton", "numba", "matplotlib", "tensorboard", "scipy")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("antcache", (*HEAVY, "pandas", "zarr", "h5py")),
        ("antcache.store", HEAVY),
        ("antcache.devices", HEAVY),
        ("antcache.annotations", HEAVY),
        ("antcache.evaluation", HEAVY),
        ("antcache.windows", HEAVY),
        ("antcache.windows.split", HEAVY),
        ("antcache.windows.target_rows", HEAVY),
        ("antcache.doctor.examination", HEAVY),
        ("antcache.cli.main", HEAVY),
        ("antcache.student", ("transformers", "av", "numba", "matplotlib", "scipy")),
        ("antcache.kernels", ("transformers", "av", "triton", "zarr", "h5py", "pandas", "click")),
        ("antcache.teacher", ("transformers", "av", "triton")),
        ("antcache.extract", ("triton", "numba")),
    ],
)
def test_import_loads_nothing_heavy(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & set(absent)


def test_help_is_quick_to_load() -> None:
    """`antcache --help` imports no command's file."""
    code = (
        "import sys; from antcache.cli.main import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        "own = {f'antcache.cli.{name}' for name in ('main', 'lazy', 'command')}\n"
        "assert not [m for m in sys.modules if m.startswith('antcache.cli.') and m not in own]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
