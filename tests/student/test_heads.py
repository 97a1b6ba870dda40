from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.student.heads.config import ModelConfig
from antcache.student.heads.fused import FusedHead
from antcache.student.heads.head import Head, HeadOutput, ModelShape, standardise
from antcache.student.heads.recurrent import RulstmHead
from antcache.student.heads.table import HEADS, build_head, sizes_of
from antcache.student.presets import PRESETS

B, T, D, C = 3, 7, 12, 5
ONE = ModelShape(dims=(D,), num_classes=C, num_frames=T)
SEVERAL = replace(ONE, dims=(6, 4, 2))
KINDS = [(name, "concat", ONE) for name in HEADS] + [
    (name, fusion, SEVERAL) for name in HEADS for fusion in ("concat", "late", "attention")
]
STANDARDISED = sorted(set(HEADS) - {"avth", "probe"})


def called(kind: tuple[str, str, ModelShape]) -> str:
    return f"{kind[0]}-{kind[1]}-{len(kind[2].dims)}"


@pytest.fixture(params=KINDS, ids=called)
def kind(request: pytest.FixtureRequest) -> tuple[StudentConfig, ModelShape]:
    """Every head, with one stream and with several, fused in every way."""
    name, fusion, sizes = request.param
    return small(name, fusion), sizes


@pytest.fixture(params=[kind for kind in KINDS if HEADS[kind[0]].per_frame], ids=called)
def framewise(request: pytest.FixtureRequest) -> tuple[StudentConfig, ModelShape]:
    """Those that score past frames and decode features."""
    name, fusion, sizes = request.param
    return small(name, fusion), sizes


def small(name: str, fusion: str = "concat") -> StudentConfig:
    own = {"layers": 2, "heads": 2, "width": 16}
    streams = ("a", "b", "c") if fusion != "concat" else ()
    config = StudentConfig.of(head=name, fusion=fusion, stream=streams)
    return config.replace(**{k: v for k, v in own.items() if k in sizes_of(HEADS[name])})


def seeded(config: StudentConfig, sizes: ModelShape = ONE, seed: int = 0) -> Head:
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return build_head(config.model, sizes).eval()


def whole(head: Head, x: torch.Tensor) -> HeadOutput:
    """All that a head can give."""
    output: HeadOutput = head(x, past=head.per_frame, decode=head.per_frame)
    return output


def windows(batch: int = B, time: int = T, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, time, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("preset", "dim", "classes", "millions"),
    [("ek55-tsn", 1024, 2513, 613), ("egtea-tsn", 1024, 106, 107)],
)
def test_published_numbers_of_parameters(
    preset: str, dim: int, classes: int, millions: float
) -> None:
    sizes = ModelShape(dims=(dim,), num_classes=classes, num_frames=10)
    with torch.device("meta"):
        head = build_head(PRESETS[preset].model, sizes)
    count = sum(p.numel() for p in head.parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.005)


def test_outputs_have_the_promised_shapes(kind: tuple[StudentConfig, ModelShape]) -> None:
    head = seeded(*kind)
    output = whole(head, windows())
    assert output.logits.shape == (B, C)
    assert output.inputs.shape == (B, T, D)
    assert output.state.shape == (B, head.state_dim)
    assert (output.past_logits is not None) == (output.decoded is not None) == head.per_frame
    if output.past_logits is not None and output.decoded is not None:
        assert output.decoded.shape == (B, T, D)
        assert output.past_logits.shape == (B, T, C)


def test_what_is_not_asked_for_is_not_given_and_changes_nothing(
    framewise: tuple[StudentConfig, ModelShape],
) -> None:
    """1e-6: the last state may be computed alone."""
    head = seeded(*framewise)
    whole = head(windows(), past=True, decode=True)
    for past, decode in ((False, False), (True, False), (False, True)):
        output = head(windows(), past=past, decode=decode)
        assert (output.past_logits is not None) == past
        assert (output.decoded is not None) == decode
        for name, value in output._asdict().items():
            if value is not None:
                expected = getattr(whole, name)
                torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("frame", range(T))
def test_no_output_depends_on_a_later_frame(
    framewise: tuple[StudentConfig, ModelShape], frame: int
) -> None:
    """Tolerance 0: what comes later is not looked at, so not even rounding may differ."""
    head, before = seeded(*framewise), windows()
    after = before.clone()
    after[:, frame] += torch.randn(B, D, generator=torch.Generator().manual_seed(2))
    one, two = head(before, past=True, decode=True), head(after, past=True, decode=True)
    assert one.past_logits is not None
    assert two.past_logits is not None
    assert one.decoded is not None
    assert two.decoded is not None
    torch.testing.assert_close(one.decoded[:, :frame], two.decoded[:, :frame], atol=0, rtol=0)
    torch.testing.assert_close(one.inputs[:, :frame], two.inputs[:, :frame], atol=0, rtol=0)
    assert not torch.allclose(one.decoded[:, frame], two.decoded[:, frame])
    # The past is classified from what came before it, the first frame from itself.
    known = frame + 1 if frame else 0
    torch.testing.assert_close(
        one.past_logits[:, :known], two.past_logits[:, :known], atol=0, rtol=0
    )
    assert not torch.allclose(one.logits, two.logits)


def test_a_shorter_window_is_one_that_ended_earlier(
    framewise: tuple[StudentConfig, ModelShape],
) -> None:
    """Frames after t can't matter if they are not even there. 1e-5: sums of other lengths."""
    head, x = seeded(*framewise), windows()
    whole, cut = head(x, past=True, decode=True), head(x[:, :4], past=True, decode=True)
    assert whole.decoded is not None
    assert whole.past_logits is not None
    torch.testing.assert_close(cut.decoded, whole.decoded[:, :4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(cut.past_logits, whole.past_logits[:, :4], atol=1e-5, rtol=1e-5)


def test_same_seed_same_weights_and_same_outputs(kind: tuple[StudentConfig, ModelShape]) -> None:
    one, two = seeded(*kind), seeded(*kind)
    mine, theirs = one.state_dict(), two.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert torch.equal(one(windows()).logits, two(windows()).logits)
    assert not torch.equal(seeded(*kind, seed=1)(windows()).logits, one(windows()).logits)


def test_state_goes_out_and_in_again(kind: tuple[StudentConfig, ModelShape]) -> None:
    one, other = seeded(*kind), seeded(*kind, seed=1)
    other.load_state_dict({name: v.clone() for name, v in one.state_dict().items()})
    for mine, theirs in zip(whole(one, windows()), whole(other, windows()), strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs)


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, T), (5, 3)])
def test_odd_sizes(kind: tuple[StudentConfig, ModelShape], batch: int, time: int) -> None:
    """One window, one frame, and windows shorter than the head was built for."""
    output = whole(seeded(*kind), windows(batch, time))
    assert output.logits.shape == (batch, C)
    assert output.past_logits is None or output.past_logits.shape == (batch, time, C)
    assert all(value.isfinite().all() for value in output if value is not None)


def test_every_weight_is_learned(kind: tuple[StudentConfig, ModelShape]) -> None:
    """The losses together reach every parameter, and no gradient is lost or infinite."""
    head = seeded(*kind).train()
    with torch.random.fork_rng():
        for parameter in head.parameters():  # attention begins at zero
            torch.nn.init.normal_(parameter, std=0.1)
        output = whole(head, windows())
    loss = F.cross_entropy(output.logits, torch.arange(B))
    if output.decoded is not None and output.past_logits is not None:
        loss = loss + (output.decoded[:, :-1] - output.inputs[:, 1:]).square().mean()
        loss = loss + F.cross_entropy(output.past_logits.flatten(0, 1), torch.arange(B * T) % C)
    loss.backward()
    for name, parameter in head.named_parameters():
        if name.endswith("positions.weight"):
            continue  # avth has more positions than frames
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_dropout_works_in_training_alone(kind: tuple[StudentConfig, ModelShape]) -> None:
    head, x = seeded(*kind), windows()
    drops = "dropout" in sizes_of(HEADS[kind[0].model.head])
    with torch.random.fork_rng():
        assert torch.equal(head(x).logits, head(x).logits)
        assert torch.equal(head.train()(x).logits, head(x).logits) != drops


def test_avth_classifies_the_last_decoded_feature() -> None:
    head = seeded(small("avth"))
    output = head(windows(), past=True, decode=True)
    assert output.past_logits is not None
    assert output.decoded is not None
    classifier = head.classifier
    torch.testing.assert_close(output.logits, classifier(output.decoded[:, -1]))
    torch.testing.assert_close(output.past_logits[:, 0], classifier(windows()[:, 0]))
    torch.testing.assert_close(output.past_logits[:, 1:], classifier(output.decoded[:, :-1]))


@pytest.mark.parametrize("name", STANDARDISED)
def test_the_scale_of_features_does_not_matter(name: str) -> None:
    head, x = seeded(small(name)), windows()
    torch.testing.assert_close(head(x).logits, head(100 * x + 7).logits, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", STANDARDISED)
def test_the_scale_of_one_stream_does_not_matter_to_the_others(name: str) -> None:
    head, x = seeded(small(name), SEVERAL), windows()
    louder = torch.cat([x[..., :6], 1000 * x[..., 6:10] - 5, x[..., 10:]], dim=-1)
    torch.testing.assert_close(head(x).logits, head(louder).logits, atol=1e-4, rtol=1e-3)


def test_streams_are_standardised_each_by_itself() -> None:
    x = windows()
    rows = standardise(x, (6, 6))
    for part in rows.split(6, dim=-1):
        torch.testing.assert_close(part.mean(-1), torch.zeros(B, T), atol=1e-6, rtol=0)
    torch.testing.assert_close(rows[..., :6], F.layer_norm(x[..., :6], (6,)))


def test_mean_forgets_the_order() -> None:
    head, x = seeded(small("mean")), windows()
    torch.testing.assert_close(head(x).logits, head(x.flip(1)).logits)
    expected = head.classifier(F.layer_norm(x, (D,)).mean(dim=1))
    torch.testing.assert_close(head(x).logits, expected)


def test_rulstm_by_hand() -> None:
    """Rolled over the frames, then unrolled on the last one for 3 + 1 steps, cell by cell."""
    config = small("rulstm").replace(layers=1)
    head = seeded(config, replace(ONE, steps_ahead=3))
    assert isinstance(head, RulstmHead)
    x = F.layer_norm(windows(), (D,))

    def cell(lstm: torch.nn.LSTM, frame: torch.Tensor, state: list[torch.Tensor]) -> None:
        gates = frame @ lstm.weight_ih_l0.T + lstm.bias_ih_l0
        gates = gates + state[0] @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=1)
        state[1] = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        state[0] = o.sigmoid() * state[1].tanh()

    state = [torch.zeros(B, 16), torch.zeros(B, 16)]
    for t in range(T):
        cell(head.rolling, x[:, t], state)
    for _ in range(4):
        cell(head.unrolling, x[:, -1], state)
    output = head(windows())
    torch.testing.assert_close(output.state, state[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.logits, head.classifier(state[0]), atol=1e-5, rtol=1e-5)


def test_late_fusion_averages_its_branches() -> None:
    head, x = seeded(small("light", "late"), SEVERAL), windows()
    assert isinstance(head, FusedHead)
    parts = x.split(SEVERAL.dims, dim=-1)
    outputs = [branch(part) for branch, part in zip(head.branches, parts, strict=True)]
    expected = sum(output.logits for output in outputs) / 3
    torch.testing.assert_close(head(x).logits, expected)
    # A branch sees its own stream alone.
    other = torch.cat([x[..., :6], windows(seed=5)[..., 6:]], dim=-1)
    mine, theirs = head(x, decode=True).decoded, head(other, decode=True).decoded
    assert mine is not None
    assert theirs is not None
    torch.testing.assert_close(theirs[..., :6], mine[..., :6])


def test_fusion_by_attention_begins_even_and_can_choose() -> None:
    even = seeded(small("light", "late"), SEVERAL)
    head = seeded(small("light", "attention"), SEVERAL)
    x = windows()
    missing, unexpected = even.load_state_dict(head.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith("attention.") for name in unexpected)
    torch.testing.assert_close(head(x).logits, even(x).logits)
    assert isinstance(head, FusedHead)
    assert head.attention is not None
    with torch.no_grad():
        head.attention[1].bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
    branch: HeadOutput = head.branches[1](x[..., 6:10])
    torch.testing.assert_close(head(x).logits, branch.logits)


def test_defaults_are_the_documented_sizes() -> None:
    with torch.device("meta"):
        light, avth, rulstm, gru, mean = (
            build_head(ModelConfig(head=name), ONE)
            for name in ("light", "avth", "rulstm", "gru", "mean")
        )
    assert (len(light.transformer.blocks), light.encoder.out_features) == (2, 256)
    assert (len(avth.transformer.blocks), avth.encoder.out_features) == (12, 2048)
    assert (rulstm.rolling.num_layers, rulstm.rolling.hidden_size) == (1, 1024)
    assert (gru.gru.num_layers, gru.gru.hidden_size) == (1, 512)
    with torch.device("meta"):
        probe = build_head(ModelConfig(head="probe"), replace(ONE, dims=(32,)))
    assert [block.num_heads for block in (*probe.blocks, probe.cross)] == [16] * 4
    assert probe.cross.mlp_in.out_features == 4 * 32
    rates = [head.dropout.p for head in (light, avth, rulstm, gru, mean)]
    assert rates == [0.3, 0.8, 0.8, 0.5, 0.5]


def test_unknown_head_names_the_known_ones() -> None:
    with pytest.raises(BadConfig, match="avth or light or rulstm or gru or mean or probe"):
        build_head(ModelConfig(head="heavy"), ONE)


@pytest.mark.parametrize(
    ("head", "setting", "value"),
    [
        ("gru", "heads", 4),
        ("rulstm", "heads", 4),
        ("mean", "layers", 4),
        ("mean", "width", 4),
        ("probe", "width", 4),
        ("probe", "dropout", 0.5),
    ],
)
def test_a_size_without_effect_is_refused(head: str, setting: str, value: float) -> None:
    with pytest.raises(BadConfig, match=f"`{setting}` has no effect on the head {head!r}"):
        build_head(ModelConfig(head=head, **{setting: value}), ONE)


def test_a_first_loss_is_that_of_guessing(kind: tuple[StudentConfig, ModelShape]) -> None:
    """Classifiers begin with small weights: no head is sure of anything before it has learned."""
    logits = seeded(*kind)(windows(64)).logits
    loss = F.cross_entropy(logits, torch.arange(64) % C).item()
    assert loss == pytest.approx(math.log(C), abs=0.05)
