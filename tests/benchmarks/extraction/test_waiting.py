"""`benchmarks/waiting.py` in small: the smallest head, one step; nothing is timed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.slow
def test_every_figure_on_record_is_measured(
    benchmark: Callable[[str], ModuleType],
    recorded,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Trained once in each environment, and beside no busy process: it would slow other tests."""
    waiting = benchmark("waiting")
    seconds = waiting.seconds
    trained: dict[str, float] = {}

    def once(environment: dict[str, str], *options: str) -> float:
        (variable,) = environment
        if environment[variable] not in trained:
            trained[environment[variable]] = seconds(environment, *options)
        return trained[environment[variable]]

    monkeypatch.setattr(waiting, "seconds", once)
    size = "1 layer, 128 wide"
    words = ["waiting.py", "--repeats", "2", "--steps", "1", "--size", size]
    monkeypatch.setattr("sys.argv", words)
    with contextlib.suppress(SystemExit):  # bounds are not for so little
        waiting.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = found.keys() - {"benchmark", "device", "broken"}
    assert names == {name for name in recorded("waiting") if name.startswith(size)} != set()
    assert len(trained) == 2
