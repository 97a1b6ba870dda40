"""The head in docs/student.md, as a reader would take it: one file and one table entry."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_kitchen import MakeRun

from antcache.cli.main import cli
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.heads.config import ModelConfig
from antcache.student.heads.head import ModelShape
from antcache.student.heads.table import HEADS, build_head
from antcache.student.runs.predicting import TrainedStudent
from antcache.student.runs.train import train


@pytest.fixture
def last(repo: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """`LastHead` of the first block under the heading, entered as the second block says."""
    page = (repo / "docs" / "student.md").read_text("utf-8")
    section = page.split("### A head of your own", 1)[1]
    file, entry, *_ = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    module = ModuleType("last")
    exec(compile(file, "docs/student.md", "exec"), vars(module))
    monkeypatch.setitem(HEADS, "last", None)  # removed again afterwards
    exec(compile(entry, "docs/student.md", "exec"), {"LastHead": module.LastHead})
    assert HEADS["last"] is module.LastHead
    own: type = module.LastHead
    return own


def test_trains_by_its_name(
    last: type, make_store: Callable[..., Store], small: StudentConfig
) -> None:
    config = small.replace(
        head="last",
        **dict.fromkeys(("layers", "heads", "width")),
        targets=("oracle",),
        feature_weight=0.1,
        past_weight=0.1,
    )
    result = train(make_store(), None, config)
    assert isinstance(result.model.head, last)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_looks_at_the_last_frame_alone(last: type) -> None:
    with torch.random.fork_rng():
        head = build_head(
            ModelConfig(head="last"), ModelShape(dims=(4, 2), num_classes=3, num_frames=5)
        ).eval()
    assert isinstance(head, last)
    x = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    changed = torch.cat([x[:, :4] + 1, x[:, 4:]], dim=1)
    torch.testing.assert_close(head(x).logits, head(changed).logits)
    output = head(x, past=True, decode=True)
    assert output.past_logits is not None
    torch.testing.assert_close(output.past_logits[:, 1:], head.classifier(output.inputs[:, :-1]))


def test_a_process_that_does_not_know_it_says_where_it_is_known(
    last: type, make_run: MakeRun, small: StudentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: dict[str, None] = dict.fromkeys(("layers", "heads", "width"))
    store, run, result = make_run(small.replace(head="last", epochs=1, **own))
    exact = TrainedStudent(store, run).predict(store.labels("validation"), split="validation")
    np.testing.assert_allclose(exact.scores, result.predictions.scores, atol=1e-5)
    out = str(run.parent / "out")
    commands = [
        ["student", "predict", str(store.path), str(run), "--split", "validation", "--output", out],
        ["student", "export", str(run), out],
        ["student", "train", str(store.path), "--run", str(run), "--resume"],
    ]
    monkeypatch.delitem(HEADS, "last")
    for command in commands:
        said = CliRunner().invoke(cli, command)
        assert (said.exit_code, said.stderr.count("\n")) == (2, 1), said.output
        assert f"{run}/config.json: the student has a head that is not known here" in said.stderr
        assert "found last" in said.stderr
        assert "use the student from Python" in said.stderr
