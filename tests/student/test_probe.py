"""The attentive probe, against its construction in plain PyTorch and in transformers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.student.heads import table
from antcache.student.heads.fused import FusedHead
from antcache.student.heads.head import ModelShape
from antcache.student.heads.probe import ProbeBlock, ProbeHead
from antcache.student.heads.table import build_head
from antcache.student.model import Student, build_student

B, T, D, HEADS, LAYERS = 3, 7, 32, 4, 3
SHAPE = ModelShape(dims=(D,), num_classes=11, num_frames=T, num_verbs=5, num_nouns=6)


def probe(shape: ModelShape = SHAPE, *, scattered: bool = True) -> ProbeHead:
    """A probe, with weights far from their initial values unless they are wanted."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        head = ProbeHead(shape, num_layers=LAYERS, num_heads=HEADS)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape) * scattered)
    return head


def tokens(seed: int = 1) -> torch.Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(seed))


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of several heads, one by one."""
    parts = zip(*(x.split(D // HEADS, dim=-1) for x in (query, key, value)), strict=True)
    return torch.cat(
        [F.softmax(q @ k.transpose(1, 2) / math.sqrt(D // HEADS), dim=-1) @ v for q, k, v in parts],
        dim=-1,
    )


def plainly(x: torch.Tensor, weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Verb, noun and action logits from tokens (B, T, D) by functions alone."""

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (D,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def mlp(name: str, x: torch.Tensor) -> torch.Tensor:
        wide = F.gelu(linear(f"{name}.mlp_in", norm(f"{name}.norm_2", x)))
        return x + linear(f"{name}.mlp_out", wide)

    for i in range(LAYERS):
        name = f"blocks.{i}"
        normed = norm(f"{name}.norm_1", x)
        key, value = linear(f"{name}.key_value", normed).split(D, dim=-1)
        found = attended(linear(f"{name}.query", normed), key, value)
        x = mlp(name, x + linear(f"{name}.attention_out", found))
    queries = weights["queries"].expand(len(x), -1, -1)
    key, value = linear("cross.key_value", norm("cross.norm_1", x)).split(D, dim=-1)
    found = queries + attended(linear("cross.query", queries), key, value)
    found = mlp("cross", found)
    return [linear(n, found[:, i]) for i, n in enumerate(("verb", "noun", "classifier"))]


def test_equals_the_plain_construction() -> None:
    """1e-5 in float32: the same sums in another order."""
    head = probe()
    output = head(tokens())
    verb, noun, action = plainly(tokens(), dict(head.named_parameters()))
    assert output.logits.shape == (B, 11)
    torch.testing.assert_close(output.logits, action, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.verb_logits, verb, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.noun_logits, noun, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(1, 28), (4, 7)])
def test_equals_the_plain_construction_on_rows_of_tokens(shape: tuple[int, int]) -> None:
    """All tokens of all T rows, side by side."""
    time, count = shape
    rows = torch.randn(B, time, count, D, generator=torch.Generator().manual_seed(2))
    head = probe(replace(SHAPE, num_frames=time, tokens=count))
    output = head(rows)
    verb, noun, action = plainly(rows.reshape(B, 28, D), dict(head.named_parameters()))
    torch.testing.assert_close(output.logits, action, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.verb_logits, verb, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.noun_logits, noun, atol=1e-5, rtol=0)
    assert output.inputs.shape == rows.shape


@pytest.mark.parametrize("fusion", ["concat", "late", "attention"])
def test_rows_of_tokens_of_several_streams(fusion: str) -> None:
    config = StudentConfig.of(head="probe", heads=4, layers=1, fusion=fusion, stream=("a", "b"))
    shape = replace(SHAPE, dims=(20, 12), num_frames=2, tokens=5)
    x = torch.randn(B, *shape.window, generator=torch.Generator().manual_seed(2))
    assert x.shape == (B, 2, 5, D)
    head = build_head(config.model, shape)
    flat = build_head(config.model, replace(shape, num_frames=10, tokens=1))
    flat.load_state_dict(head.state_dict())
    torch.testing.assert_close(head(x).logits, flat(x.flatten(1, 2)).logits)
    assert head(x).inputs.shape == x.shape


@pytest.mark.parametrize("fusion", ["concat", "late"])
@pytest.mark.parametrize("head", sorted({*table.HEADS} - {"probe"}))
def test_other_heads_refuse_rows_of_tokens(head: str, fusion: str) -> None:
    config = StudentConfig.of(head=head, fusion=fusion, stream=("a", "b"))
    shape = replace(SHAPE, dims=(20, 12), tokens=5)
    said = rf"head '{head}' takes rows of one vector: found rows of 5 tokens .*--tokens 1x1x1"
    with pytest.raises(BadConfig, match=said):
        build_student(config, shape)
    with torch.device("meta"):  # AVT-h of the usual size has 300 million weights
        build_student(config, replace(shape, tokens=1))


def test_equals_the_pooler_of_transformers() -> None:
    """Its norms have an epsilon of their own; 1e-5 as above."""
    vjepa2 = pytest.importorskip("transformers.models.vjepa2")
    head = probe()
    config = vjepa2.VJEPA2Config(
        hidden_size=D, num_attention_heads=HEADS, num_pooler_layers=LAYERS, layer_norm_eps=1e-5
    )
    theirs = vjepa2.modeling_vjepa2.VJEPA2AttentivePooler(config)
    weights: dict[str, torch.Tensor] = {"query_tokens": head.queries[None]}
    names = {"norm_1": "layer_norm1", "norm_2": "layer_norm2", "query": "{}.q_proj"}
    names |= {"attention_out": "{}.out_proj", "mlp_in": "mlp.fc1", "mlp_out": "mlp.fc2"}
    for key, value in head.state_dict().items():
        where, _, rest = key.partition(".")
        if where not in ("blocks", "cross"):
            continue
        block = "cross_attention_layer"
        if where == "blocks":
            number, _, rest = rest.partition(".")
            block = f"self_attention_layers.{number}"
        attention = "cross_attn" if where == "cross" else "self_attn"
        part, kind = rest.split(".")
        if part == "key_value":
            for name, half in zip(("k_proj", "v_proj"), value.chunk(2), strict=True):
                weights[f"{block}.{attention}.{name}.{kind}"] = half
        else:
            weights[f"{block}.{names[part].format(attention)}.{kind}"] = value
    theirs.query_tokens = torch.nn.Parameter(torch.zeros(1, 3, D))
    theirs.load_state_dict(weights)
    found = theirs(tokens())
    torch.testing.assert_close(head(tokens()).state, found[:, 2], atol=1e-5, rtol=0)
    verb = head.verb
    assert verb is not None
    torch.testing.assert_close(head(tokens()).verb_logits, verb(found[:, 0]), atol=1e-5, rtol=0)


def test_weights_begin_as_published() -> None:
    """Truncated normal of 0.02; what is added to the residual by block i less, by 1 / sqrt(2 i)."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        head = ProbeHead(replace(SHAPE, dims=(256,)), num_layers=LAYERS, num_heads=HEADS)
    for name, parameter in head.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, name.endswith("weight")))
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            *where, part, _ = ("", *name.split("."))
            depth = LAYERS if "cross" in where else int(where[-1]) + 1 if "blocks" in where else 0
            share = 1 / math.sqrt(2 * depth) if part.endswith("_out") else 1.0
            # A sample of n values has an error of about 1 / sqrt(2 n) of its deviation: 4 of them.
            near = 4 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(0.02 * share, rel=near), name


def test_the_order_of_tokens_is_what_the_backbone_put_into_them() -> None:
    head, x = probe(), tokens()
    torch.testing.assert_close(head(x).logits, head(x.flip(1)).logits, atol=1e-5, rtol=1e-4)
    for t in range(T):
        other = x.clone()
        other[:, t] += tokens(2)[:, t]
        assert not torch.allclose(head(x).logits, head(other).logits)


def student(**settings: object) -> Student:
    config = StudentConfig.of(head="probe", layers=1, heads=HEADS, **settings)
    return build_student(config, SHAPE)


def test_verb_and_noun_are_the_heads_own_where_they_are_learned() -> None:
    own = student(verb_noun_weight=1.0)
    names = {name.split(".")[0] for name, _ in own.named_parameters()}
    assert names == {"head"}  # the student adds no classifiers
    output = own(tokens())
    assert output.verb_logits is not None
    assert output.noun_logits is not None
    assert (output.verb_logits.shape, output.noun_logits.shape) == ((B, 5), (B, 6))
    action = student()
    assert action(tokens()).verb_logits is None
    assert action(tokens()).noun_logits is None
    assert isinstance(action.head, ProbeHead)
    assert action.head.queries.shape == (1, D)


@pytest.mark.parametrize("attention", [False, True])
def test_branches_are_fused_for_verb_and_noun_as_well(attention: bool) -> None:
    fusion = "attention" if attention else "late"
    config = StudentConfig.of(head="probe", heads=4, layers=1, fusion=fusion, stream=("a", "b"))
    head = build_head(config.model, replace(SHAPE, dims=(20, 12)))
    assert isinstance(head, FusedHead)
    parts = [
        branch(x) for branch, x in zip(head.branches, tokens().split((20, 12), -1), strict=True)
    ]
    if head.attention is None:
        share = torch.tensor([0.5, 0.5])
    else:
        with torch.no_grad():
            head.attention[1].bias.copy_(torch.tensor([0.0, math.log(3)]))
        share = torch.tensor([0.25, 0.75])
    output = head(tokens())
    for name in ("logits", "verb_logits", "noun_logits"):
        expected = sum(w * getattr(part, name) for w, part in zip(share, parts, strict=True))
        torch.testing.assert_close(getattr(output, name), expected, msg=name)


@pytest.mark.parametrize("setting", ["past_weight", "feature_weight"])
@pytest.mark.parametrize("fusion", ["concat", "late"])
def test_what_it_has_not_can_not_be_learned(setting: str, fusion: str) -> None:
    config = StudentConfig.of(
        head="probe", heads=4, fusion=fusion, stream=("a", "b"), **{setting: 0.1}
    )
    with pytest.raises(BadConfig, match=rf"`{setting}` has no effect on the head 'probe'"):
        build_student(config, replace(SHAPE, dims=(20, 12)))


def test_a_width_that_the_heads_can_not_share_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"multiple of the 16 heads, found 36.*`heads`"):
        build_student(StudentConfig.of(head="probe"), replace(SHAPE, dims=(36,)))


def test_a_block_of_queries_has_no_output_projection() -> None:
    names = {name.split(".")[0] for name, _ in ProbeBlock(8, 2, 1, crossed=True).named_parameters()}
    assert names == {"norm_1", "query", "key_value", "norm_2", "mlp_in", "mlp_out"}
