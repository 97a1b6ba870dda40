from __future__ import annotations

import pytest
import torch

from antcache.errors import BadConfig
from antcache.student.config import PRESETS, StudentConfig
from antcache.student.heads import HEADS, Head, build_head

B, T, D, C = 3, 7, 12, 5


def small_head(name: str) -> Head:
    config = StudentConfig(head=name, layers=2, heads=2, width=16)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return build_head(config, dim=D, num_classes=C, num_frames=T).eval()


def windows() -> torch.Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("preset", "dim", "classes", "millions"),
    [("ek55-tsn", 1024, 2513, 613), ("egtea-tsn", 1024, 106, 107)],
)
def test_published_numbers_of_parameters(
    preset: str, dim: int, classes: int, millions: float
) -> None:
    with torch.device("meta"):
        head = build_head(PRESETS[preset], dim=dim, num_classes=classes, num_frames=10)
    count = sum(p.numel() for p in head.parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.005)


@pytest.mark.parametrize("name", HEADS)
def test_outputs_have_the_promised_shapes(name: str) -> None:
    output = small_head(name)(windows(), past=True)
    assert output.logits.shape == (B, C)
    assert output.inputs.shape == output.decoded.shape == (B, T, D)
    assert output.past_logits is not None
    assert output.past_logits.shape == (B, T, C)
    assert small_head(name)(windows()).past_logits is None


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("frame", range(T))
def test_no_output_depends_on_a_later_frame(name: str, frame: int) -> None:
    head, before = small_head(name), windows()
    after = before.clone()
    after[:, frame] += torch.randn(B, D, generator=torch.Generator().manual_seed(2))
    one, two = head(before, past=True), head(after, past=True)
    assert one.past_logits is not None
    assert two.past_logits is not None
    torch.testing.assert_close(one.decoded[:, :frame], two.decoded[:, :frame], atol=0, rtol=0)
    assert not torch.allclose(one.decoded[:, frame], two.decoded[:, frame])
    # The past is classified from what came before it, the first frame from itself.
    known = max(frame + 1, 1) if frame else 0
    torch.testing.assert_close(
        one.past_logits[:, :known], two.past_logits[:, :known], atol=0, rtol=0
    )
    assert not torch.allclose(one.logits, two.logits)


def test_avth_classifies_the_last_decoded_feature() -> None:
    head = small_head("avth")
    output = head(windows(), past=True)
    assert output.past_logits is not None
    classifier = head.classifier
    torch.testing.assert_close(output.logits, classifier(output.decoded[:, -1]))
    torch.testing.assert_close(output.past_logits[:, 0], classifier(windows()[:, 0]))
    torch.testing.assert_close(output.past_logits[:, 1:], classifier(output.decoded[:, :-1]))


def test_light_does_not_depend_on_the_scale_of_features() -> None:
    head, x = small_head("light"), windows()
    torch.testing.assert_close(head(x).logits, head(100 * x + 7).logits, atol=1e-4, rtol=1e-3)


def test_defaults_are_the_documented_sizes() -> None:
    with torch.device("meta"):
        light = build_head(StudentConfig(), dim=D, num_classes=C, num_frames=T)
        avth = build_head(StudentConfig(head="avth"), dim=D, num_classes=C, num_frames=T)
    assert (len(light.transformer.blocks), light.encoder.out_features) == (4, 512)
    assert (len(avth.transformer.blocks), avth.encoder.out_features) == (12, 2048)
    assert avth.dropout.p == 0.8


def test_unknown_head_names_the_known_ones() -> None:
    with pytest.raises(BadConfig, match="avth or light"):
        build_head(StudentConfig(head="heavy"), dim=D, num_classes=C, num_frames=T)
