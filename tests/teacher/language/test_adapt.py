"""Adaptation: it learns, can be stopped and taken up, and its output is what teachers read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from antcache.cli.main import cli
from antcache.errors import AlreadyExists, BadCheckpoint, BadConfig, NotFound, WriteFailed
from antcache.teacher.base import make_teacher
from antcache.teacher.histories import HistoryConfig

pytest.importorskip("transformers")

from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from antcache.teacher.language.adapt import adapt
from antcache.teacher.language.checkpoint import read_settings
from antcache.teacher.language.config import AdaptConfig
from antcache.teacher.language.masked import MaskedTraining
from antcache.teacher.language.network import resize
from antcache.teacher.language.recipes import Masker, Pieces, order
from antcache.teacher.language.text import ActionTokens, add_marks

PAIRS = [("take", "pan"), ("open", "tap"), ("put", "pan"), ("close", "tap")]
RECIPES = [[PAIRS[(i + k) % 4] for k in range(2 + i % 5)] for i in range(40)]
TRAIN, HELD_OUT = RECIPES[8:], RECIPES[:8]
SMALL = {"steps": 6, "batch": 8, "save_every": 4, "actions": 4, "lr": 1e-2}


@pytest.fixture
def config(language_models):
    def make(family="bert", **settings):
        return AdaptConfig(**{"model": language_models(family), **SMALL, **settings})

    return make


def weights(folder):
    return {
        n: p.detach() for n, p in AutoModelForMaskedLM.from_pretrained(folder).named_parameters()
    }


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_recipes_are_cut_into_pieces_of_about_equal_length():
    known = {}
    recipe = [("v", str(i)) for i in range(7)]
    pieces = Pieces.of(iter([recipe, [], recipe[:2]]), "paper", 5, known)
    assert (pieces.recipes, len(pieces)) == (2, 3)
    assert pieces.names[0] == "v <v> 0"
    rows = pieces.histories(np.array([1, 0, 2]))
    assert rows.tolist() == [[-1, 4, 5, 6], [0, 1, 2, 3], [-1, -1, 0, 1]]


def test_every_piece_comes_once_in_each_turn():
    rows = np.concatenate([order(10, step, 4, seed=3) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert (order(10, 1, 4, seed=3) == rows[4:8]).all()
    assert (order(10, 0, 4, seed=4) != rows[:4]).any()


def masker_for(folder, share=0.15, form="paper"):
    _, tokenizer = read_settings(folder)
    add_marks(tokenizer)
    known = {}
    pieces = Pieces.of(RECIPES * 40, form, 6, known)
    tokens = ActionTokens.of(tokenizer, tuple(known), form, None)
    return Masker(tokenizer, tokens, share), pieces, tokenizer, tokens


def test_masks_are_what_they_say(language_models):
    masker, pieces, tokenizer, tokens = masker_for(language_models("bert"))
    rows = pieces.histories(np.arange(len(pieces)))
    batch = masker.batch(rows, [0])
    flat, starts = tokens.encode(rows)
    # What stood there is known, and everything else is as it was.
    plain = torch.full_like(batch.ids, tokenizer.pad_token_id)
    plain[batch.there.bool()] = torch.from_numpy(tokens.vocabulary[flat])
    assert (batch.there.sum(dim=1).numpy() == np.diff(starts)).all()
    assert torch.equal(plain.flatten()[batch.chosen], batch.target)
    changed = (plain != batch.ids).flatten()
    assert set(changed.nonzero()[:, 0].tolist()) <= set(batch.chosen.tolist())
    special = {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(["<v>", "<a>"])}
    assert not special & set(batch.target.tolist())
    ordinary = sum(int(t) not in special for t in plain[batch.there.bool()])
    assert len(batch.chosen) / ordinary == pytest.approx(0.15, abs=0.01)
    now = batch.ids.flatten()[batch.chosen]
    masked = (now == tokenizer.mask_token_id).float().mean()
    left = (now == batch.target).float().mean()
    assert float(masked) == pytest.approx(0.8, abs=0.03)
    assert float(left) == pytest.approx(0.1, abs=0.03)
    again, other = masker.batch(rows, [0]), masker.batch(rows, [1])
    assert torch.equal(again.ids, batch.ids)
    assert not torch.equal(other.ids, batch.ids)


def test_something_is_always_masked(language_models):
    masker, pieces, _, _ = masker_for(language_models("bert"), share=1e-9)
    assert len(masker.batch(pieces.histories(np.arange(2)), [0]).chosen) == 1


@pytest.mark.parametrize(
    "family", ["bert", "distilbert", "electra", "roberta", "albert", "deberta-v2"]
)
def test_the_head_at_masked_tokens_alone_gives_the_whole_models_loss(
    family, config, language_models
):
    masker, pieces, tokenizer, _ = masker_for(language_models(family))
    model = AutoModelForMaskedLM.from_pretrained(language_models(family)).eval()
    resize(model, len(tokenizer))
    run = MaskedTraining(model, masker, config(family, precision="float32"), torch.device("cpu"))
    batch = masker.batch(pieces.histories(np.arange(12)), [0])
    with torch.inference_mode():
        ours = run.loss(batch)
        logits = model(input_ids=batch.ids, attention_mask=batch.there).logits
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1)[batch.chosen], batch.target)
    assert float(ours) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_takes_the_mean_gradient_of_its_own_batches(
    accumulate, config, language_models, tmp_path, monkeypatch, steps_of_one_batch
):
    """The same batch always, and a rate at which no weight moves: the same gradient each time."""
    masker, pieces, tokenizer, _ = masker_for(language_models("bert"))
    model = AutoModelForMaskedLM.from_pretrained(
        language_models("bert"), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    resize(model, len(tokenizer))
    batch = masker.batch(pieces.histories(np.arange(12)), [0])
    monkeypatch.setattr(Masker, "batch", lambda *_: batch)
    settings = config(precision="float32", lr=1e-12, accumulate=accumulate, save_every=100)
    run = MaskedTraining(model, masker, settings, torch.device("cpu"))
    run.loss(batch).backward()
    expected = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    run.train(pieces, tmp_path, {}, lambda *_: None)
    assert steps_of_one_batch(settings.steps) == pytest.approx(min(float(expected), 1), rel=1e-4)


def test_weights_by_chance_are_those_of_the_seed_and_of_nobody_else(config, tmp_path):
    """`init: random` keeps settings and tokenizer, and nothing that was learned."""
    for name, settings in {
        "a": {"init": "random"},
        "b": {"init": "random"},
        "c": {"init": "random", "seed": 1},
        "d": {},
    }.items():
        adapt(TRAIN, HELD_OUT, config(steps=1, lr=1e-12, **settings), tmp_path / name)
    a, b, c, d = (weights(tmp_path / name) for name in "abcd")
    assert equal(a, b)
    assert not equal(a, c)
    assert not equal(a, d)


@pytest.mark.parametrize("form", ["paper", "natural"])
def test_it_learns_and_its_output_is_what_a_teacher_reads(
    form, config, taxonomy, timeline, tmp_path
):
    report = adapt(TRAIN, HELD_OUT, config(form=form, steps=60), tmp_path / "adapted")
    assert report["perplexity_after"] < 0.6 * report["perplexity_before"]
    assert (report["recipes"], report["held_out_recipes"]) == (32, 8)
    assert json.loads((tmp_path / "adapted" / "adapt.json").read_text()) == report
    assert [p.name for p in tmp_path.iterdir()] == ["adapted"]  # nothing staged is left
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "adapted")
    words = tokenizer.convert_ids_to_tokens(tokenizer("take <v> pan <a>")["input_ids"])
    assert (words == ["[CLS]", "take", "<v>", "pan", "<a>", "[SEP]"]) == (form == "paper")
    settings = {"model": tmp_path / "adapted", "form": form, "length": 4, "attended": 2}
    teacher = make_teacher("language", taxonomy, {**settings, "epochs": 1})
    examples = timeline.examples(HistoryConfig(), 4)
    teacher.fit(examples)
    assert np.isfinite(teacher.predict(examples).logits).all()


def test_the_seed_decides_and_the_callers_random_state_stays(config, tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    adapt(TRAIN, HELD_OUT, config(), tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)
    adapt(TRAIN, HELD_OUT, config(), tmp_path / "b")
    adapt(TRAIN, HELD_OUT, config(seed=1), tmp_path / "c")
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


class Stopped(Exception):
    """Stands for whatever kills a training."""


def stop_at(step):
    def progress(label, done, total):
        if done == step:
            raise Stopped

    return progress


def test_a_stopped_training_taken_up_ends_with_the_same_weights(config, tmp_path):
    settings = config(accumulate=2)
    whole = adapt(TRAIN, HELD_OUT, settings, tmp_path / "whole")
    with pytest.raises(Stopped):
        adapt(TRAIN, HELD_OUT, settings, tmp_path / "part", progress=stop_at(5))
    assert not (tmp_path / "part").exists()
    with pytest.raises(AlreadyExists, match="--resume takes it up"):
        adapt(TRAIN, HELD_OUT, settings, tmp_path / "part")
    seen = []
    report = adapt(
        TRAIN,
        HELD_OUT,
        settings,
        tmp_path / "part",
        resume=True,
        progress=lambda label, done, total: seen.append(done),
    )
    assert seen == [5, 6]  # from the state of step 4
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "part"))
    for key in ("perplexity_before", "perplexity_after"):
        assert report[key] == whole[key]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "whole"]


def test_one_process_adapts_into_a_folder(config, tmp_path, held_elsewhere):
    with (
        held_elsewhere(tmp_path / ".x.lock"),
        pytest.raises(AlreadyExists, match=r"/x: another process is training it"),
    ):
        adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", resume=True)
    adapt(TRAIN, HELD_OUT, config(), tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_is_replaced_stands_until_the_new_model_is_there(config, tmp_path, monkeypatch):
    adapt(TRAIN, HELD_OUT, config(steps=1), tmp_path / "x")
    before = (tmp_path / "x" / "adapt.json").read_bytes()

    def refuse(self, *_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(BertForMaskedLM, "save_pretrained", refuse)
        with pytest.raises(WriteFailed, match=r"/x: can't be written \(No space left on device\)"):
            adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / "adapt.json").read_bytes() == before
    adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / "adapt.json").read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_finished_training_is_only_read(config, tmp_path):
    """It may have been killed just before it could clear up."""
    report = adapt(TRAIN, HELD_OUT, config(), tmp_path / "x")
    before = weights(tmp_path / "x")
    work = tmp_path / ".x.adapting"
    work.mkdir()
    (work / "training.safetensors").write_bytes(b"its last state")
    again = adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", resume=True)
    assert again == report
    assert equal(weights(tmp_path / "x"), before)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    for recipes, settings in ((TRAIN[::-1], config()), (TRAIN, config(steps=7))):
        with pytest.raises(AlreadyExists, match="an adapted model is already here"):
            adapt(recipes, HELD_OUT, settings, tmp_path / "x", resume=True)


def test_only_the_same_training_is_taken_up(config, tmp_path):
    with pytest.raises(Stopped):
        adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", progress=stop_at(5))
    for changed, recipes in ((config(lr=1e-3), TRAIN), (config(), TRAIN[::-1])):
        with pytest.raises(BadCheckpoint, match="other settings or recipes"):
            adapt(recipes, HELD_OUT, changed, tmp_path / "x", resume=True)
    state = tmp_path / ".x.adapting" / "training.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(BadCheckpoint, match="stopped training can't be read"):
        adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", resume=True)
    adapt(TRAIN, HELD_OUT, config(), tmp_path / "x", overwrite=True)
    assert not state.exists()


def test_a_model_without_a_head_gets_a_new_one_and_the_log_says_so(
    config, language_models, tmp_path, caplog
):
    from transformers import AutoModel

    folder = tmp_path / "headless"
    AutoModel.from_pretrained(language_models("bert")).save_pretrained(folder)
    AutoTokenizer.from_pretrained(language_models("bert")).save_pretrained(folder)
    caplog.set_level("INFO", logger="antcache")
    adapt(TRAIN, HELD_OUT, config(model=folder), tmp_path / "adapted")
    lines = [r.getMessage() for r in caplog.records]
    assert any("new weights: cls.predictions.bias" in line for line in lines)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "adapted")
    table = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight.data_ptr() == table.data_ptr()


def test_nothing_is_overwritten_unasked(config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(AlreadyExists, match="not an adapted model"):
        adapt(TRAIN, HELD_OUT, config(), tmp_path / "mine", overwrite=True)
    adapt(TRAIN, HELD_OUT, config(steps=1), tmp_path / "x")
    with pytest.raises(AlreadyExists, match="already here"):
        adapt(TRAIN, HELD_OUT, config(steps=1), tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "value"), [("mask", 0.0), ("mask", 1.0), ("steps", 0), ("lr", -1.0), ("warmup", 1.0)]
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(BadConfig, match=rf"impossible {name}: expected .*, found {value}$"):
        AdaptConfig(**{name: value})


def test_an_unknown_form_is_refused():
    with pytest.raises(BadConfig, match="unknown form: expected natural or paper, found poem"):
        AdaptConfig(form="poem")


def test_models_and_recipes_that_do_not_do_are_refused(config, tmp_path):
    with pytest.raises(BadConfig, match="can't be used"):
        adapt(TRAIN, HELD_OUT, config("gpt2"), tmp_path / "x")
    with pytest.raises(BadConfig, match="no recipes to train on"):
        adapt([], HELD_OUT, config(), tmp_path / "x")
    with pytest.raises(BadConfig, match="no recipes to measure"):
        adapt(TRAIN, [[]], config(), tmp_path / "x")
    with pytest.raises(NotFound, match="no such folder"):
        adapt(TRAIN, HELD_OUT, config(model=tmp_path / "none"), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A corpus as `antcache teacher corpus` writes it."""
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    from antcache.teacher.corpus.build import FACTS_FILE, FORMAT, RECIPES_FILE

    monkeypatch.chdir(tmp_path)
    folder = Path("corpus")
    folder.mkdir()
    rows = [
        {
            "partition": "val" if i < 8 else "train",
            "verbs": [verb for verb, _ in recipe],
            "objects": [noun for _, noun in recipe],
        }
        for i, recipe in enumerate(RECIPES)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / RECIPES_FILE)
    facts = {"format": FORMAT, "partitions": {"train": 32, "val": 8}}
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    return folder


def command(*words, code=0):
    result = CliRunner().invoke(cli, ["teacher", "adapt", *map(str, words)])
    assert result.exit_code == code, result.output
    return result


def test_the_command_does_what_the_library_does(corpus, config, language_models):
    options = ["--model", language_models("bert"), "--steps", 6, "--batch-size", 8, "--actions", 4]
    options += ["--lr", 1e-2, "--save-every", 4]
    report = json.loads(command(corpus, "-o", "out", *options, "--json").stdout)
    assert (report["recipes"], report["held_out_recipes"]) == (32, 8)
    adapt(TRAIN, HELD_OUT, config(), Path("expected"))
    assert equal(weights("out"), weights("expected"))
    assert "held-out perplexity" in Path("out.log").read_text()
    shutil.rmtree("out")
    shown = command(corpus, "-o", "out", *options).stdout
    assert "held-out perplexity after" in shown


def test_the_command_takes_up_what_was_stopped(corpus, config, language_models):
    with pytest.raises(Stopped):
        adapt(TRAIN, HELD_OUT, config(), Path("out"), progress=stop_at(5))
    options = ["--model", language_models("bert"), "--steps", 6, "--batch-size", 8, "--actions", 4]
    options += ["--lr", 1e-2]
    assert "--resume" in command(corpus, "-o", "out", *options, code=2).stderr
    command(corpus, "-o", "out", *options, "--resume")
    assert Path("out/model.safetensors").is_file()
    assert "taken up at step 4" in Path("out.log").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "-o", "out"], "nowhere: no corpus here"),
        (["corpus", "-o", "out", "--held-out", "test"], "no such partition"),
        (["corpus", "-o", "out", "--model", "./none"], "./none: no such folder"),
        (["corpus", "-o", "out", "--mask", "2"], "impossible --mask"),
        (["corpus", "-o", "corpus"], "not an adapted model"),
        (["corpus", "-o", "out", "--device", "abacus"], "no such device"),
    ],
)
def test_bad_input_ends_with_one_line_and_writes_nothing(words, message, corpus):
    lines = command(*words, code=2).stderr.splitlines()
    assert [line for line in lines if line.startswith("Error")] == lines[-1:]
    assert message in lines[-1]
    assert not Path("out").exists()
