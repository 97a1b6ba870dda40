"""A kitchen of twelve actions, and videos made of scripts in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scripted import joined, segments_of

from antcache.annotations import Segments, Taxonomy
from antcache.teacher.histories import Timeline

VERBS = ("take", "put", "open", "close")
NOUNS = ("pan", "cup", "tap")

MakeSegments = Callable[..., Segments]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One core: sums in another order differ in the last bit, and these are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def steps_of_one_batch(gradients: list[list[torch.Tensor]]) -> Callable[[int], float]:
    """Checks that every step had the gradient of its batch alone; returns that one's norm."""

    def check(count: int) -> float:
        assert len(gradients) == count
        for step in gradients:
            torch.testing.assert_close(step, gradients[0], rtol=1e-3, atol=1e-6)
        return float(torch.stack([g.norm() for g in gradients[0]]).norm())

    return check


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    """Every verb with every noun: action 3 * verb + noun."""
    pairs = [(v, n) for v in range(len(VERBS)) for n in range(len(NOUNS))]
    return Taxonomy(
        dataset="kitchen",
        verbs=VERBS,
        nouns=NOUNS,
        actions=tuple(f"{VERBS[v]}_{NOUNS[n]}" for v, n in pairs),
        action_verbs=tuple(v for v, _ in pairs),
        action_nouns=tuple(n for _, n in pairs),
        many_shot_actions=(0, 1, 2, 3, 4, 5),
        many_shot_verbs=(0, 1),
        many_shot_nouns=(0, 1),
    )


@pytest.fixture(scope="session")
def make_segments(taxonomy: Taxonomy) -> MakeSegments:
    """See `segments_of`."""
    return partial(segments_of, taxonomy)


@pytest.fixture(scope="session")
def join() -> Callable[[Sequence[Segments]], Segments]:
    """See `joined`."""
    return joined


@pytest.fixture(scope="session")
def splits(
    make_segments: MakeSegments, join: Callable[[Sequence[Segments]], Segments]
) -> dict[str, Segments]:
    """Eight training and three validation videos in which what is taken is put, and so on."""
    rng = np.random.default_rng(0)

    def video(name: str) -> Segments:
        actions: list[int] = []
        for _ in range(6):
            noun, opens = int(rng.integers(3)), int(rng.integers(2))
            actions += [6 * opens + noun, 6 * opens + 3 + noun]  # take, put or open, close
        return make_segments(name, np.arange(len(actions)) * 2.0, actions)

    return {
        "train": join([video(f"t{i}") for i in range(8)]),
        "validation": join([video(f"v{i}") for i in range(3)]),
    }


@pytest.fixture(scope="session")
def timeline(splits: dict[str, Segments], taxonomy: Taxonomy) -> Timeline:
    """All of these in one table."""
    return Timeline.of(splits, taxonomy)


def kitchen_tokenizer(kind: str) -> Any:
    """A tokenizer of the kitchen's words: `wordpiece`, `bytes` (BPE) or `unigram`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer, UnigramTrainer
    from transformers import PreTrainedTokenizerFast

    text = [
        f"{verb} {noun}, {other} up {noun}" for verb in VERBS for other in VERBS for noun in NOUNS
    ]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    if kind == "wordpiece":
        letters = "abcdefghijklmnopqrstuvwxyz"
        words = [*special, ",", "-", "<", ">", *VERBS, "pan", "ta", "##p", *letters]
        words += [f"##{letter}" for letter in letters if letter != "p"]
        made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(text, trainer)
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = UnigramTrainer(
            vocab_size=60, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
        made.train_from_iterator(text, trainer)
    if kind == "bytes":  # as GPT-2: nothing around a text, one special token
        names = {"bos": "[CLS]", "eos": "[CLS]"}
    else:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, **{f"{name}_token": token for name, token in names.items()}
    )


FAMILIES = {
    "bert": ("wordpiece", {"intermediate_size": 32}),
    "distilbert": ("wordpiece", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    "electra": ("wordpiece", {"embedding_size": 8, "intermediate_size": 32}),
    "roberta": ("unigram", {"intermediate_size": 32, "pad_token_id": 0}),
    "albert": ("unigram", {"embedding_size": 8, "intermediate_size": 32}),
    "deberta-v2": ("unigram", {"intermediate_size": 32, "relative_attention": True}),
    "gpt2": ("bytes", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 80}),
}
"""Tokenizer and settings of small language models, all of width 16 with 2 layers."""


@pytest.fixture(scope="session")
def language_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a small language model of a family with random weights; made when asked for."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

            kind, settings = FAMILIES[family]
            tokenizer = kitchen_tokenizer(kind)
            common = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
            common |= {"max_position_embeddings": 80}
            common = {} if family in ("distilbert", "gpt2") else common
            config = AutoConfig.for_model(
                family, vocab_size=len(tokenizer), **{**common, **settings}
            )
            auto = AutoModelForCausalLM if family == "gpt2" else AutoModelForMaskedLM
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = auto.from_config(config)
            made[family] = tmp_path_factory.mktemp("models") / family
            model.save_pretrained(made[family])
            tokenizer.save_pretrained(made[family])
        return made[family]

    return folder
