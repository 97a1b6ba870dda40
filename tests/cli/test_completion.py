"""What a shell is told that a word may be completed to, with nothing heavy loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete, get_completion_class

from antcache.cli.main import COMMANDS, cli


def completions(words: str, incomplete: str) -> list[tuple[str, str]]:
    """Type and value of each completion."""
    complete = ShellComplete(cli, {}, "antcache", "_ANTCACHE_COMPLETE")
    return [(item.type, item.value) for item in complete.get_completions(words.split(), incomplete)]


STORE = ["info", "doctor", "index", "verify", "repair", "convert", "push", "pull", "remove"]


@pytest.mark.parametrize(
    ("words", "incomplete", "found"),
    [
        ("", "", list(COMMANDS)),
        ("", "st", ["store", "student"]),
        ("store", "", STORE),
        ("teacher", "en", ["ensemble"]),
        ("teacher train x", "--dev", ["--device"]),
        ("teacher train x --kind", "", ["count", "sequence", "language", "prompted"]),
        ("extract --dtype", "float1", ["float16"]),
    ],
)
def test_words(words: str, incomplete: str, found: list[str]) -> None:
    assert completions(words, incomplete) == [("plain", value) for value in found]


@pytest.mark.parametrize("words", ["store info", "extract", "extract videos", "teacher train x -o"])
def test_paths_are_the_shells(words: str) -> None:
    assert completions(words, "ki") == [("file", "ki")]


def test_a_group_is_completed_without_its_commands() -> None:
    code = (
        "import sys; from click.shell_completion import ShellComplete as Complete\n"
        "from antcache.cli.main import cli\n"
        "complete = Complete(cli, {}, 'antcache', '_ANTCACHE_COMPLETE')\n"
        "assert complete.get_completions([], '') and complete.get_completions(['student'], '')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name for name in done.stdout.split() if name.startswith("antcache.cli.")}
    assert loaded <= {f"antcache.cli.{name}" for name in ("main", "lazy", "command", "student")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_of_the_page_have_a_script(repo: Path, shell: str) -> None:
    page = (repo / "docs/commands.md").read_text("utf-8")
    assert f"_ANTCACHE_COMPLETE={shell}_source antcache" in page
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(cli, {}, "antcache", "_ANTCACHE_COMPLETE")
    assert f"_ANTCACHE_COMPLETE={shell}_complete" in made.source_template % made.source_vars()
