from __future__ import annotations

import pytest
import torch

from antcache.errors import BadConfig
from antcache.student.heads.avth import AvtHead
from antcache.student.heads.blocks import PLAIN_KEYS, CausalTransformer, attention

WIDTH, LAYERS, HEADS, POSITIONS = 32, 3, 4, 12


def randomised() -> CausalTransformer:
    """Weights far from their initial values, norms and biases included."""
    model = CausalTransformer(
        WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        num_positions=POSITIONS,
        dropout=0.1,
        attention_dropout=0.1,
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def gpt2_weights(model: CausalTransformer) -> dict[str, torch.Tensor]:
    """The same weights under GPT-2's names; its Conv1D keeps matrices transposed."""
    names = {
        "norm_1": "ln_1",
        "attention_in": "attn.c_attn",
        "attention_out": "attn.c_proj",
        "norm_2": "ln_2",
        "mlp_in": "mlp.c_fc",
        "mlp_out": "mlp.c_proj",
    }
    weights = {}
    for key, value in model.state_dict().items():
        if key.startswith("blocks."):
            _, layer, part, kind = key.split(".")
            theirs = value.T if value.ndim == 2 else value
            weights[f"h.{layer}.{names[part]}.{kind}"] = theirs
        else:
            weights[key.replace("positions", "wpe").replace("norm", "ln_f")] = value
    return weights


def test_equals_gpt2() -> None:
    """Absolute tolerance 1e-5 on values of size 1: both sum in float32, in another order."""
    transformers = pytest.importorskip("transformers")
    ours = randomised().eval()
    theirs = transformers.GPT2Model(
        transformers.GPT2Config(
            n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS, vocab_size=7
        )
    ).eval()
    missing, unexpected = theirs.load_state_dict(gpt2_weights(ours), strict=False)
    assert not unexpected
    assert all(name == "wte.weight" or name.endswith((".bias", ".masked_bias")) for name in missing)
    assert not {m for m in missing if "ln" in m or "c_" in m}
    x = torch.randn(5, 10, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(inputs_embeds=x).last_hidden_state
        torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours(x, last=True), expected[:, -1:], atol=1e-5, rtol=0)


def test_avth_is_gpt2_between_its_projections() -> None:
    """The head as published, part by part; 1e-5 as above."""
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        head = AvtHead(
            12, 5, num_layers=LAYERS, num_heads=HEADS, width=WIDTH, dropout=0.8, num_positions=40
        ).eval()
    gpt2 = transformers.GPT2Model(
        transformers.GPT2Config(
            n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=40, vocab_size=7
        )
    ).eval()
    assert not gpt2.load_state_dict(gpt2_weights(head.transformer), strict=False).unexpected_keys
    x = torch.randn(5, 10, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states = gpt2(inputs_embeds=x @ head.encoder.weight.T).last_hidden_state
        decoded = states @ head.decoder.weight.T
        logits = decoded[:, -1] @ head.classifier.weight.T + head.classifier.bias
        output = head(x, decode=True)
    torch.testing.assert_close(output.decoded, decoded, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.logits, logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [9, PLAIN_KEYS + 1])
@pytest.mark.parametrize("is_causal", [True, False])
def test_attention_in_bfloat16_is_that_of_float32(is_causal: bool, length: int) -> None:
    """As far as bfloat16 goes: 8 bits of the inputs, the weights and the output."""
    random = torch.Generator().manual_seed(1)
    given = torch.randn(3, 2, 4, length, 8, generator=random).bfloat16()
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        parts = [part.to(dtype).requires_grad_() for part in given]
        out = attention(*parts, dropout_p=0.0, is_causal=is_causal)
        out.sum().backward()
        found.append([out, *(part.grad for part in parts)])
    for half, single in zip(*found, strict=True):
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), single, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_weights_of_many_tokens_are_never_held_whole(dtype: torch.dtype) -> None:
    """What is kept for the gradients grows with the tokens, not with their square."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    length = 2 * PLAIN_KEYS
    parts = [torch.zeros(1, 1, length, 8, dtype=dtype, requires_grad=True) for _ in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        attention(*parts, dropout_p=0.0, is_causal=False)
    assert 0 < kept < length * length * parts[0].element_size()


def test_dropout_works_in_training_alone() -> None:
    model = randomised()
    x = torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        assert not torch.equal(model.train()(x), model(x))
        assert torch.equal(model.eval()(x), model(x))


def test_impossible_sizes_are_refused() -> None:
    for layers, heads, words in ((1, 5, "width: expected a multiple of the 5"), (0, 1, "layers")):
        with pytest.raises(BadConfig, match=f"impossible {words}"):
            CausalTransformer(
                WIDTH,
                num_layers=layers,
                num_heads=heads,
                num_positions=4,
                dropout=0.0,
                attention_dropout=0.0,
            )
