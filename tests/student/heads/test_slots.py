"""Slots of the light head: the same as a plain construction of PyTorch's own layers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.student.heads.config import ModelConfig
from antcache.student.heads.head import HeadOutput, ModelShape
from antcache.student.heads.light import LightHead
from antcache.student.heads.slots import SlotDecoder
from antcache.student.heads.table import HEADS, build_head
from antcache.student.training.objective import losses
from antcache.windows.dataset import Batch

B, T, D, C, Z, H = 3, 7, 12, 5, 4, 16
SHAPE = ModelShape(dims=(D,), num_classes=C, num_frames=T)
MODEL = ModelConfig(layers=2, heads=2, width=H, slots=Z)


def seeded(config: ModelConfig, seed: int = 0, std: float | None = None) -> LightHead:
    """A head; with `std` all its weights are drawn, so that none is too small to be seen."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        head = build_head(config, SHAPE).eval()
        if std is not None:
            for parameter in head.parameters():
                nn.init.normal_(parameter, std=std)
    assert isinstance(head, LightHead)
    return head


def windows() -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(1))


def plain_slots(decoder: SlotDecoder, states: Tensor) -> Tensor:
    """The decoder again, with PyTorch's attention and layers, and the same weights."""
    attention = nn.MultiheadAttention(H, decoder.num_heads, batch_first=True)
    weights = [decoder.query.weight, decoder.memory.weight]
    biases = [decoder.query.bias, decoder.memory.bias]
    attention.load_state_dict(
        {
            "in_proj_weight": torch.cat(weights).detach(),
            "in_proj_bias": torch.cat(biases).detach(),
            "out_proj.weight": decoder.attention_out.weight.detach(),
            "out_proj.bias": decoder.attention_out.bias.detach(),
        }
    )
    rows = []
    for window in states:  # window by window, slot by slot
        slots = []
        for query in decoder.queries.weight:
            x = (window[-1] + query)[None]
            mixed, _ = attention(decoder.norm_1(x)[None], window[None], window[None])
            x = x + mixed[0]
            wide = decoder.mlp_in(decoder.norm_2(x))
            gelu = (
                0.5 * wide * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
            )
            slots.append(decoder.norm(x + decoder.mlp_out(gelu))[0])
        rows.append(torch.stack(slots))
    return torch.stack(rows)


def test_logits_are_those_of_a_plain_construction() -> None:
    head = seeded(MODEL, std=0.3)
    assert head.slots is not None
    with torch.no_grad():
        output = head(windows())
        states = head.transformer(head.encoder(F.layer_norm(windows(), (D,))))
        expected = head.classifier(plain_slots(head.slots, states))
    torch.testing.assert_close(output.logits, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.later_logits, expected[:, 1:], atol=1e-5, rtol=1e-5)
    assert output.state.shape == (B, H)
    # Slots say different things: each has a query of its own.
    assert (expected[:, 1:] - expected[:, :1]).abs().amax(dim=(0, 2)).min() > 1e-2


def test_without_slots_nothing_is_changed() -> None:
    """The same weights, from the same random state, and no score of a later action."""
    plain, slotted = seeded(replace(MODEL, slots=None)), seeded(MODEL)
    mine, more = plain.state_dict(), slotted.state_dict()
    assert all(torch.equal(value, more[name]) for name, value in mine.items())
    assert all(name.startswith("slots.") for name in more.keys() - mine.keys())
    assert plain(windows()).later_logits is None


def test_what_else_is_asked_for_changes_no_slot() -> None:
    head = seeded(MODEL, std=0.3)
    one, two = head(windows()), head(windows(), past=True, decode=True)
    torch.testing.assert_close(one.later_logits, two.later_logits)
    assert two.past_logits is not None
    plain = seeded(replace(MODEL, slots=None))
    plain.load_state_dict({k: v for k, v in head.state_dict().items() if "slots." not in k})
    torch.testing.assert_close(two.past_logits, plain(windows(), past=True).past_logits)


def test_every_weight_of_the_slots_is_learned() -> None:
    head = seeded(MODEL, std=0.1).train()
    output = head(windows())
    F.cross_entropy(output.later_logits.flatten(0, 1), torch.arange(B * (Z - 1)) % C).backward()
    for name, parameter in head.named_parameters():
        if name.startswith("decoder."):
            continue  # of features, which nobody asked for
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def batch(later: Tensor) -> Batch:
    return Batch(
        features=windows(),
        padded=torch.zeros(B, T, dtype=torch.bool),
        action=torch.tensor([0, 1, 2]),
        verb=torch.zeros(B, dtype=torch.int64),
        noun=torch.zeros(B, dtype=torch.int64),
        frame_action=torch.full((B, T), -100),
        later_action=later,
    )


@pytest.mark.parametrize("loss", ["cross-entropy", "focal"])
def test_slots_after_the_end_are_masked(loss: str) -> None:
    """What is said in them changes no loss, and has no gradient."""
    config = StudentConfig(model=MODEL).replace(loss=loss)
    later = torch.tensor([[3, 4, 0], [1, -100, -100], [-100, -100, -100]])
    output = seeded(MODEL, std=0.3)(windows())
    scores = output.later_logits.detach().requires_grad_()
    found = losses(output._replace(later_logits=scores), batch(later), None, config)
    found.loss.backward()
    there = later >= 0
    assert scores.grad is not None
    assert (scores.grad[~there] == 0).all()
    assert (scores.grad[there].abs().sum(dim=-1) > 0).all()
    if loss == "cross-entropy":
        expected = F.cross_entropy(scores[there], later[there])  # the mean over four
        torch.testing.assert_close(found.later_loss, expected)
    torch.testing.assert_close(found.loss, found.action_loss + found.later_loss)
    without = losses(output._replace(later_logits=None), batch(later), None, config)
    torch.testing.assert_close(found.action_loss, without.loss)
    nothing = losses(output, batch(torch.full((B, Z - 1), -100)), None, config)
    assert nothing.later_loss == 0
    assert nothing.loss == nothing.action_loss


@pytest.mark.parametrize("name", sorted(set(HEADS) - {"light"}))
def test_other_heads_refuse_slots(name: str) -> None:
    with pytest.raises(BadConfig, match=f"`slots` has no effect on the head '{name}'"):
        build_head(ModelConfig(head=name, slots=Z), SHAPE)


def test_branches_have_no_slots() -> None:
    with pytest.raises(BadConfig, match="`slots` are those of one head"):
        build_head(replace(MODEL, fusion="late"), replace(SHAPE, dims=(6, 6)))


@pytest.mark.parametrize("slots", [1, 0, 101])
def test_impossible_numbers_are_refused(slots: int) -> None:
    with pytest.raises(BadConfig, match="slots"):
        StudentConfig.of(slots=slots)


def test_names_of_an_output_are_last() -> None:
    """Positional outputs of one's own heads go on to mean what they meant."""
    assert HeadOutput._fields[-1] == "later_logits"
