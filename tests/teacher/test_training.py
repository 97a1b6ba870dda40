"""The way down a loss, as every teacher and mixture goes it."""

from __future__ import annotations

import ast

import pytest
import torch

from antcache.teacher.training import Descent, one_cycle


def parameter():
    return torch.nn.Parameter(torch.tensor([3.0, -4.0]))


def test_rates_follow_the_schedule_and_groups_keep_their_own():
    a, b = parameter(), parameter()
    groups = [{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}]
    descent = Descent(groups, lambda step: one_cycle(step / 10, 0.5))
    seen = []
    for _ in range(10):
        descent.step([a.sum() + b.sum()])
        seen.append([group["lr"] for group in descent.optimizer.param_groups])
    wanted = [one_cycle(step / 10, 0.5) for step in range(10)]
    assert seen == [[0.1 * factor, 0.01 * factor] for factor in wanted]
    assert descent.taken == 10


def test_losses_add_up_and_their_gradients_are_clipped_together(gradients):
    together, apart = parameter(), parameter()
    for p, losses in (
        (together, [(5 * together).sum()]),
        (apart, [apart.sum(), (4 * apart).sum()]),
    ):
        total = Descent([p], clipped=[p], lr=0.1).step(losses)
        assert float(total) == pytest.approx(-5)
    torch.testing.assert_close(together, apart)
    for step in gradients:
        assert float(step[0].norm()) == pytest.approx(1)
    Descent([apart], lr=0.1).step([(5 * apart).sum()])
    assert float(gradients[-1][0].norm()) == pytest.approx(5 * 2**0.5)


def test_a_step_forgets_the_gradient_before_it(gradients):
    p = parameter()
    descent = Descent([p], lr=0.0)
    for _ in range(3):
        descent.step([p.sum()])
    assert [step[0].tolist() for step in gradients] == [[1.0, 1.0]] * 3


def test_no_other_module_of_the_teachers_steps_an_optimizer(repo):
    wrong = [
        f"{file.relative_to(repo)}:{node.lineno}"
        for file in sorted((repo / "antcache/teacher").rglob("*.py"))
        if file.name != "training.py"
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node).startswith("torch.optim") or node.attr == "backward")
    ]
    assert not wrong
