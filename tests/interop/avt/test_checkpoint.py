"""AVT's checkpoints: the scores of GPT-2 with the same weights, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from antcache.annotations import Segments, Taxonomy
from antcache.cli.main import cli
from antcache.errors import BadCheckpoint, RefusedPickle
from antcache.evaluation import Predictions
from antcache.interop.avt.checkpoint import read_checkpoint
from antcache.store import Store
from antcache.student.runs.kept import KeptStudent

DIM, WIDTH, LAYERS, HEADS, ACTIONS, VERBS, NOUNS = 12, 16, 2, 4, 6, 2, 3
LARGE = torch.full((ACTIONS,), 1e300, dtype=torch.float64)


class Future(nn.Module):
    """As AVT's `GPT2LM`: an encoder, GPT-2 without words, a decoder."""

    def __init__(self) -> None:
        super().__init__()
        transformers = pytest.importorskip("transformers")
        self.encoder = nn.Linear(DIM, WIDTH, bias=False)
        self.decoder = nn.Linear(WIDTH, DIM, bias=False)
        self.gpt_model = transformers.GPT2Model(
            transformers.GPT2Config(
                n_embd=WIDTH,
                n_layer=LAYERS,
                n_head=HEADS,
                vocab_size=1,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
        del self.gpt_model.wte

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Expectation (B, D) of what comes after features (B, T, D)."""
        where = torch.arange(features.shape[1])
        states = self.gpt_model(
            inputs_embeds=self.encoder(features), position_ids=where
        ).last_hidden_state
        return self.decoder(states)[:, -1]


class Avt(nn.Module):
    """As AVT's `BaseModel` of features: the names are its own."""

    def __init__(self, kinds: dict[str, int]) -> None:
        super().__init__()
        self.future_predictor = Future()
        self.classifiers = nn.ModuleDict({k: nn.Linear(DIM, n) for k, n in kinds.items()})
        self.register_buffer("cls_map_verb_action", torch.zeros(ACTIONS, VERBS))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With classes, a validation split and features."""
    taxonomy = Taxonomy(
        dataset="tiny",
        verbs=("take", "cut"),
        nouns=("pan", "leek", "salt"),
        actions=tuple(f"action {i}" for i in range(ACTIONS)),
        action_verbs=(0, 0, 0, 1, 1, 1),
        action_nouns=(0, 1, 2, 0, 1, 2),
    )
    made = Store.create(tmp_path / "store")
    made.create_stream("rgb", dim=DIM, dtype="float32", fps=2.0, source="made up", config={})
    rows = np.random.default_rng(0).standard_normal((60, DIM)).astype(np.float32)
    made.write_features("rgb", "v", rows)
    start = np.arange(8.0, 28.0, 2.0)
    zero = np.zeros(len(start), dtype=np.int64)
    segments = Segments.of(
        uid=[str(n) for n in range(len(start))],
        video=["v"] * len(start),
        start_s=start,
        stop_s=start + 1,
        verb=zero,
        noun=zero,
        action=zero,
    )
    made.write_labels("validation", segments, taxonomy, source="made up")
    return made


def save(path: Path, model: nn.Module, **more: Any) -> Path:
    """As AVT stores a checkpoint, after a step of its optimizer."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    model.load_state_dict(before)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"base_sched_dict": scheduler.state_dict(), "other_stuff": {"last": 3}},
        "epoch": 12.0,
        **more,
    }
    torch.save(content, path)
    return path


def bring(file: Path, run: Path, store: Store, *more: str) -> Any:
    words = ["import", "avt-checkpoint", file, run, "--store", store.path, "--heads", HEADS]
    return CliRunner().invoke(cli, [*map(str, words), *more])


@pytest.mark.parametrize("own", [False, True])
def test_scores_are_those_of_gpt2(tmp_path: Path, store: Store, own: bool) -> None:
    kinds = {"action": ACTIONS, **({"verb": VERBS, "noun": NOUNS} if own else {})}
    model = Avt(kinds).eval()
    done = bring(save(tmp_path / "checkpoint.pth", model), tmp_path / "run", store)
    assert done.exit_code == 0, done.output
    kept = KeptStudent.load(tmp_path / "run")
    features = torch.randn((4, 10, DIM), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = model.future_predictor(features)
        expected = {kind: model.classifiers[kind](state) for kind in kinds}
    output = kept.predictor(features)
    assert output.logits.std() > 0.1
    torch.testing.assert_close(output.logits, expected["action"], atol=1e-5, rtol=0)
    assert (output.verb_logits is not None) == own
    if own:
        torch.testing.assert_close(output.verb_logits, expected["verb"], atol=1e-5, rtol=0)
        torch.testing.assert_close(output.noun_logits, expected["noun"], atol=1e-5, rtol=0)


def test_it_predicts_over_the_store_and_is_handed_on(tmp_path: Path, store: Store) -> None:
    run = tmp_path / "run"
    model = Avt({"action": ACTIONS})
    assert not bring(save(tmp_path / "c.pth", model), run, store, "--license", "mit").exit_code
    words = ["student", "predict", store.path, run, "--split", "validation", "-o", tmp_path / "p"]
    done = CliRunner().invoke(cli, [*map(str, words)])
    assert done.exit_code == 0, done.output
    assert Predictions.load(tmp_path / "p").scores.shape == (10, ACTIONS)
    card = (run / "README.md").read_text()
    assert "Weights of others: AVT's c.pth, epoch 12, blake2b:" in card
    assert "Nothing was measured" in card
    assert not CliRunner().invoke(cli, ["student", "export", str(run), str(run) + "2"]).exit_code
    assert "Weights of others" in Path(f"{run}2/README.md").read_text()


@pytest.mark.parametrize("wrapped", ["module.", "plain", "older"])
def test_however_the_weights_were_kept(tmp_path: Path, wrapped: str) -> None:
    """From within DistributedDataParallel, alone, or with GPT-2's masks of older versions."""
    model = Avt({"action": ACTIONS})
    state: dict[str, Any] = dict(model.state_dict())
    if wrapped == "module.":
        state = {"model": {f"module.{name}": value for name, value in state.items()}}
    elif wrapped == "older":
        for block in range(LAYERS):
            begin = f"future_predictor.gpt_model.h.{block}.attn"
            state[f"{begin}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
            state[f"{begin}.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, tmp_path / "c.pth")
    found = read_checkpoint(tmp_path / "c.pth")
    assert (found.dim, found.width, found.layers, found.epoch) == (DIM, WIDTH, LAYERS, None)
    expected = model.future_predictor.gpt_model.h[1].attn.c_attn.weight.detach().T
    got = found.tensors["head.transformer.blocks.1.attention_in.weight"]
    np.testing.assert_array_equal(got, expected)


def change(state: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        del state[name]
    else:
        state[name] = value


GPT = "future_predictor.gpt_model."


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("future_predictor.encoder.weight", None, "no future_predictor.encoder.weight"),
        ("classifiers.action.weight", None, "no classifiers.action.weight"),
        (f"{GPT}h.0.mlp.c_fc.bias", None, r"no .*h\.0\.mlp\.c_fc\.bias"),
        (f"{GPT}h.7.ln_1.bias", torch.zeros(WIDTH), "not numbered from 0"),
        ("mapper_to_inter.weight", torch.zeros(DIM, 20), "AVT-h alone does not have.*mapper"),
        ("future_predictor.decoder.weight", torch.zeros(DIM, 3), "does not fit the encoder"),
        ("classifiers.action.weight", torch.zeros(ACTIONS, 3), "does not fit the encoder"),
        ("classifiers.action.bias", torch.full((ACTIONS,), torch.nan), "NaN or infinity"),
        (
            "classifiers.action.bias",
            torch.full((ACTIONS,), 1e300, dtype=torch.float64),
            "NaN or infinity",
        ),
        ("classifiers.action.bias", torch.zeros(ACTIONS, dtype=torch.int64), "is no weight"),
        ("classifiers.verb.weight", torch.zeros(VERBS, DIM), "no classifiers.verb.bias"),
    ],
)
def test_weights_that_are_not_avts(tmp_path: Path, name: str, value: Any, words: str) -> None:
    state: dict[str, Any] = dict(Avt({"action": ACTIONS}).state_dict())
    change(state, name, value)
    torch.save({"model": state}, tmp_path / "c.pth")
    with pytest.raises(BadCheckpoint, match=words):
        read_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize("epoch", [10**400, math.nan, -math.inf, "three", None])
def test_an_epoch_that_is_no_number_is_none(tmp_path: Path, epoch: Any) -> None:
    file = save(tmp_path / "c.pth", Avt({"action": ACTIONS}), epoch=epoch)
    assert read_checkpoint(file).epoch is None


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


def test_nothing_of_the_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = Avt({"action": ACTIONS}).state_dict()
    torch.save({"model": state, "optimizer": Evil()}, tmp_path / "c.pth")
    with pytest.raises(RefusedPickle, match=r"Path|getattr"):
        read_checkpoint(tmp_path / "c.pth")
    assert not (tmp_path / "evil").exists()


def test_what_the_command_refuses(tmp_path: Path, store: Store) -> None:
    file, run = save(tmp_path / "c.pth", Avt({"action": ACTIONS + 1})), tmp_path / "run"
    torch.save([1], tmp_path / "list.pth")
    for done, words in (
        (bring(file, run, store), "another number of actions"),
        (bring(file, run, store, "--heads", "5"), "impossible width|number of actions"),
        (bring(tmp_path / "none", run, store), "no such file"),
        (bring(tmp_path / "list.pth", run, store), "not the weights of a model"),
        (bring(file, tmp_path, store), "something is already here"),
        (bring(file, run, store, "--stream", "flow"), "flow"),
    ):
        assert done.exit_code == 2, done.output
        assert done.stderr.count("\n") == 1
        assert any(each in done.stderr for each in words.split("|")), done.stderr
    assert not run.exists()
