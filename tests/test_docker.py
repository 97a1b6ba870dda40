"""The Dockerfile, as far as it can be checked without a daemon: what it copies and installs."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

KNOWN = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
IMAGE = re.compile(r"[a-z0-9./-]+:[\w.-]+")  # with a tag: what it is does not change by itself
ALIKE = {"setuptools", "wheel", "torch"}


class Step(NamedTuple):
    """An instruction, what is given to it, and the stage that it belongs to."""

    stage: str
    name: str
    given: str


def read(text: str) -> list[Step]:
    """The instructions of a Dockerfile, each in one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    steps, stage = [], ""
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, given = line.partition(" ")
        if name == "FROM":
            found = re.fullmatch(r"(\S+) AS (\w+)", given)
            assert found, line
            stage = found[2]
        steps.append(Step(stage, name, given.strip()))
    return steps


@pytest.fixture(scope="module")
def steps(repo: Path) -> list[Step]:
    return read((repo / "Dockerfile").read_text("utf-8"))


def pip_lines(steps: list[Step]) -> list[list[str]]:
    """The words of each `pip install`, as the shell makes them with no build argument given."""
    lines = [
        line.strip()
        for s in steps
        if s.name == "RUN"
        for line in s.given.split("&&")
        if "pip" in line
    ]
    return [shlex.split(re.sub(r"\$\{\w+:\+.*?\}", "", line)) for line in lines]


def test_every_instruction_is_one(steps: list[Step]) -> None:
    assert {step.name for step in steps} == KNOWN
    stages: list[str] = []
    for step in steps:
        assert step.given, step
        if step.name == "FROM":
            base = step.given.split()[0]
            assert base in stages or IMAGE.fullmatch(base), step
            stages.append(step.stage)
        if step.name in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(word, str) for word in json.loads(step.given))
        if step.name in ("ENV", "ARG"):
            assert all(re.match(r"[A-Z_]+=", word) for word in shlex.split(step.given))
    assert stages == ["base", "cpu", "cuda"]


def test_what_is_run_is_no_root(steps: list[Step]) -> None:
    """In both stages that are built, and nothing is run or copied once it is somebody else."""
    made = re.search(r"useradd .* (\w+)$", "\n".join(s.given for s in steps), re.MULTILINE)
    assert made
    for stage in ("cpu", "cuda"):
        names = [s.name for s in steps if s.stage == stage]
        users = [s.given for s in steps if s.stage == stage and s.name == "USER"]
        assert users == [made[1]]
        assert names[names.index("USER") :] == ["USER", "WORKDIR", "ENTRYPOINT", "CMD"]


def test_what_is_copied_is_there_and_all_that_an_installation_needs(
    repo: Path, steps: list[Step]
) -> None:
    allowed = [
        line[1:] for line in (repo / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for stage in ("cpu", "cuda"):
        sources = set()
        for step in steps:
            if step.name == "COPY" and step.stage in ("base", stage):
                *names, to = step.given.split()
                assert to == "./" or names == [to], step  # a folder keeps its name
                sources |= set(names)
        assert all((repo / name).exists() for name in sources)
        assert sources == set(allowed)  # what is copied gets to the daemon, and nothing else
        # The folders of the package, and what setup.py reads.
        setup = (repo / "setup.py").read_text("utf-8")
        folders = re.search(r"^FOLDERS = (\{.*\})$", setup, re.MULTILINE)
        assert folders
        assert set(json.loads(folders[1]).values()) | {"README.md", "LICENSE"} <= sources


def test_nothing_that_is_made_gets_to_the_daemon(repo: Path) -> None:
    rules = [x for x in (repo / ".dockerignore").read_text().splitlines() if x[:1] not in ("#", "")]
    for path in (".venv", ".git", "demo", "antcache/__pycache__", "tests"):
        ignored = False
        for rule in rules:  # the last rule that fits decides
            pattern = rule.lstrip("!")
            first = path.split("/")[0]
            if fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(first, pattern):
                ignored = not rule.startswith("!")
        assert ignored, path


def test_what_pip_installs_has_a_pin_that_is_allowed(repo: Path, steps: list[Step]) -> None:
    """So that `make install-check`, which resolves all extras with the pins, speaks for it."""
    spec = importlib.util.spec_from_file_location("setup_of_docker", repo / "setup.py")
    assert spec
    assert spec.loader
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    text = (repo / "constraints.txt").read_text("utf-8")
    pins = {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==(.+)$", text, re.MULTILINE)
    }
    lines = pip_lines(steps)
    assert len(lines) == 5
    extras: set[str] = set()
    for line in lines:
        assert line[:4] == ["pip", "install", "-c", "constraints.txt"]
        for word in line[4:]:
            if word.startswith("--"):
                assert word == "--no-build-isolation"
            elif word.startswith("."):
                extras |= set(word[2:-1].split(","))
            else:
                assert word in ALIKE
                assert canonicalize_name(word) in pins
    assert extras <= set(setup.EXTRAS)
    wanted = [Requirement(r) for name in extras for r in setup.EXTRAS[name]]
    wanted += [Requirement(r) for r in setup.REQUIRES]
    assert {"torch", "av", "triton", "jinja2"} <= {r.name for r in wanted}
    for requirement in wanted:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


@pytest.mark.parametrize(
    ("text", "stage"),
    [("FROM a:1 AS x\n# said\nRUN b \\\n    && c\n", "x"), ("FROM x AS y\n\nRUN b && c", "y")],
)
def test_instructions_are_read_whole(text: str, stage: str) -> None:
    assert read(text)[1] == Step(stage, "RUN", "b && c")
