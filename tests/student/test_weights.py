from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional as F

from antcache.cli.student_weight import weight
from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets, distillation_loss
from antcache.student.config import StudentConfig
from antcache.student.weights import PUBLISHED, Weight, describe, parse_weight


def run(*arguments: object) -> Result:
    return CliRunner().invoke(weight, [str(a) for a in arguments])


def test_the_published_settings_convert_as_documented() -> None:
    egtea = parse_weight("150@T10/C106", convention="paper")
    assert egtea.ours == pytest.approx(1.415, abs=5e-4)
    assert egtea.effective == pytest.approx(141.5, abs=0.05)
    ek55 = parse_weight("20@T5/C2513", convention="paper", k=50)
    assert ek55.ours == pytest.approx(0.4)
    assert PUBLISHED["EGTEA"] == egtea
    assert PUBLISHED["EK55"] == ek55


@pytest.mark.parametrize("k", [None, 4])
def test_the_conversion_is_that_of_the_losses(k: int | None) -> None:
    """The paper's term (mean over rows and classes) equals ours with the converted weight."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 9, generator=generator)
    given = parse_weight("150@T10/C9", convention="paper", k=k)
    if k is None:
        targets, picked = DenseTargets(logits=teacher), torch.arange(9).expand(5, 9)
    else:
        best = teacher.topk(k)
        targets, picked = TopKTargets(index=best.indices, logit=best.values), best.indices
    log_p = (student.gather(1, picked) / 10).log_softmax(1)
    q = (teacher.gather(1, picked) / 10).softmax(1)
    paper = 150 * 10**2 * F.kl_div(log_p, q, reduction="none").mean()
    ours = distillation_loss(student, targets, temperature=10, weight=given.ours)
    torch.testing.assert_close(ours, paper)


def test_there_and_back() -> None:
    there = parse_weight("37.5@T2.5/C106", convention="paper", k=20)
    back = parse_weight(f"{there.ours!r}@T2.5/C106", convention="ours", k=20)
    assert back.paper == pytest.approx(37.5)
    assert back == there


@pytest.mark.parametrize(
    "text", ["150", "150@T10", "150@10/106", "x@T1/C5", "1@Tx/C5", "1@T1/C1.5"]
)
def test_another_form_is_refused_with_the_right_one(text: str) -> None:
    with pytest.raises(BadConfig, match="150@T10/C106"):
        parse_weight(text, convention="paper")


@pytest.mark.parametrize(
    ("text", "k"),
    [("-1@T1/C5", None), ("nan@T1/C5", None), ("1@T0/C5", None), ("1@T1/C0", None), ("1@T1/C5", 6)],
)
def test_impossible_numbers_are_refused(text: str, k: int | None) -> None:
    with pytest.raises(BadConfig, match="impossible"):
        parse_weight(text, convention="paper", k=k)


def test_the_command_prints_both_conventions() -> None:
    result = run("--paper", "150@T10/C106")
    assert result.exit_code == 0, result.output
    assert "paper:     150 " in result.output
    assert "ours:      1.41509 " in result.output
    assert "effective: 141.509 " in result.output
    said = json.loads(run("--ours", "0.4@T5/C2513", "--k", 50, "--json").stdout)
    assert said["paper"] == pytest.approx(20)
    assert said["k"] == 50
    assert run().exit_code == 2
    assert run("--paper", "1@T1/C5", "--ours", "1@T1/C5").exit_code == 2


def test_a_run_says_what_its_weight_comes_to() -> None:
    config = StudentConfig(targets="t", weight=3.0, temperature=2.0)
    (said,) = describe(config, 2513, None)
    assert "weight 3 here = 7539 in the paper's convention (mean over all 2513 classes)" in said
    assert "= 2^2 it is 12 x KL" in said
    (said,) = describe(config, 2513, 50)
    assert "= 150 in the paper's convention (mean over the teacher's 50 best classes)" in said


def test_another_number_of_classes_is_said_aloud() -> None:
    """The paper's EGTEA setting, taken to EK55, dense or cut; and its EK55 one without its k."""
    egtea = StudentConfig(targets="t", weight=1.415, temperature=10)
    assert len(describe(egtea, 106, None)) == 1
    dense = describe(egtea, 2513, None)
    assert "paper's 150 of EGTEA, whose mean runs over 106 classes; over 2513" in dense[1]
    assert "would be weight 0.05969" in dense[1]
    assert "over 50 as here the paper's 150 would be weight 3" in describe(egtea, 106, 50)[1]
    ek55 = StudentConfig(targets="t", weight=0.4, temperature=5)
    assert len(describe(ek55, 2513, 50)) == 1
    assert "mean runs over 50 classes; over 2513" in describe(ek55, 2513, None)[1]


def test_a_weight_of_the_paper_taken_for_ours_is_said_aloud() -> None:
    said = describe(StudentConfig(targets="t", weight=150, temperature=10), 106, None)
    assert "106 times as strong: --weight 1.415 is the same" in said[1]


def test_weights_are_checked_however_made() -> None:
    with pytest.raises(BadConfig, match="k from 1"):
        Weight(ours=1, temperature=1, classes=5, k=0)
