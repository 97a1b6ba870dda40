from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional as F

from antcache.cli.student.weight import weight
from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets, distillation_loss
from antcache.student.training.weights import PUBLISHED, Weight, describe, parse_weight


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
        targets, picked = DenseTargets(logits=teacher[None]), torch.arange(9).expand(5, 9)
    else:
        best = teacher.topk(k)
        targets, picked = (
            TopKTargets(index=best.indices[None], logit=best.values[None]),
            best.indices,
        )
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


def own(ours: float, temperature: float, classes: int, k: int | None = None) -> Weight:
    return Weight(ours=ours, temperature=temperature, classes=classes, k=k)


def test_a_weight_is_said_in_both_conventions() -> None:
    (said,) = describe(own(3, 2, 2513))
    assert "weight 3 here = 7539 in the paper's convention (mean over all 2513 classes)" in said
    assert "= 2^2 it is 12 x KL" in said
    (said,) = describe(own(3, 2, 2513, 50))
    assert "= 150 in the paper's convention (mean over the teacher's 50 best classes)" in said


def test_several_teachers_classes_count_together() -> None:
    """The mean runs over their union; there is no one number where that differs by segment."""
    (said,) = describe(own(3, 2, 6, 2), (4, 4))
    assert "= 12 in the paper's convention (mean over the 4 classes in the union of " in said
    (said,) = describe(own(3, 2, 6, 2), (2, 4))
    assert "weight 3 here, no one number in the paper's convention (mean over the 2 to 4 " in said
    assert "it is 12 x KL" in said
    ek55 = describe(own(0.4, 5, 2513, 50), (50, 100))
    assert "over 50 to 100 as here the paper's 20 would be weight 0.2 to 0.4" in ek55[1]
    assert len(describe(own(0.4, 5, 2513, 25), (50, 50))) == 1


def test_another_number_of_classes_is_said_aloud() -> None:
    """The paper's EGTEA setting, taken to EK55, dense or cut; and its EK55 one without its k."""
    assert len(describe(own(1.415, 10, 106))) == 1
    dense = describe(own(1.415, 10, 2513))
    assert "paper's 150 of EGTEA, whose mean runs over 106 classes; over 2513" in dense[1]
    assert "would be weight 0.05969" in dense[1]
    cut = describe(own(1.415, 10, 106, 50))
    assert "over 50 as here the paper's 150 would be weight 3" in cut[1]
    assert len(describe(own(0.4, 5, 2513, 50))) == 1
    assert "mean runs over 50 classes; over 2513" in describe(own(0.4, 5, 2513))[1]


def test_the_papers_number_over_other_classes_is_said_aloud() -> None:
    said = describe(own(20 / 2513, 5, 2513))
    assert "the paper's 20 of EK55, but as a mean over 2513 classes in place of 50" in said[1]
    assert "0.0199 times as strong: weight 0.4 is the same" in said[1]


def test_a_weight_of_the_paper_taken_for_ours_is_said_aloud() -> None:
    said = describe(own(150, 10, 106))
    assert "106 times as strong: weight 1.415 is the same" in said[1]


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (("--ours", "1.415@T10/C2513"), "Warning: this is the paper's 150 of EGTEA, whose mean"),
        (("--paper", "20@T5/C2513"), "Warning: this is the paper's 20 of EK55, but as a mean"),
        (("--paper", "20@T5/C2513", "--k", 50), ""),
        (("--paper", "150@T10/C106"), ""),
    ],
)
def test_the_command_warns_as_a_run_does(arguments: tuple[object, ...], warning: str) -> None:
    for result in (run(*arguments), run(*arguments, "--json")):
        assert result.exit_code == 0
        assert result.stderr.startswith(warning)
        assert bool(result.stderr) == bool(warning)
    assert json.loads(result.stdout)["temperature"] in (5, 10)


def test_weights_are_checked_however_made() -> None:
    with pytest.raises(BadConfig, match="impossible k: expected from 1"):
        Weight(ours=1, temperature=1, classes=5, k=0)
