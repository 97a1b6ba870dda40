"""Writes the golden files: what this version keeps on a disk, for later versions to read.

    python tests/golden/make.py [OUT]

A store of each kind with something of everything, a run of every head, a teacher of every kind, and
`expected.json`: what was in them. The files in `format-1/` were written by the version before units
said their own key; they are never made again, that is what they are for. Another format, or another
form of a run or teacher, gets a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation import score
from antcache.store import SoftTargets, Store
from antcache.store.integrity.convert import ConvertConfig, convert
from antcache.student.config import StudentConfig
from antcache.student.heads.table import HEADS, sizes_of
from antcache.student.runs.train import train
from antcache.teacher.base import load_teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import teach

VERBS, NOUNS = ("take", "put", "wash"), ("pan", "cup", "jalapeño")
PAIRS = [(v, n) for v in range(3) for n in range(3)]
ACTIONS, DIM, FPS, SECONDS = len(PAIRS), 8, 4.0, 3.0
SMALL = StudentConfig.of(
    layers=1,
    heads=2,
    width=8,
    dropout=0.0,
    epochs=1,
    batch_size=8,
    device="cpu",
    precision="float32",
    verb_noun_weight=0.5,
)
TEACHERS: dict[str, dict[str, Any]] = {
    "count": {"length": 4},
    "sequence": {"length": 4, "attended": 2, "layers": 1, "heads": 2, "width": 8, "epochs": 1},
    "language": {
        **{"length": 4, "attended": 2, "epochs": 1, "batch": 16, "held_out": 0.0},
        **{"model": "model", "precision": "float32"},
    },
}


def taxonomy() -> Taxonomy:
    """Nine actions, one with a letter that is not ASCII."""
    return Taxonomy(
        dataset="golden",
        verbs=VERBS,
        nouns=NOUNS,
        actions=tuple(f"{VERBS[v]}_{NOUNS[n]}" for v, n in PAIRS),
        action_verbs=tuple(v for v, _ in PAIRS),
        action_nouns=tuple(n for _, n in PAIRS),
        many_shot_actions=(0, 1, 2, 3),
        many_shot_verbs=(0, 1),
        many_shot_nouns=(0, 1),
    )


def segments(split: str, num_videos: int) -> Segments:
    """Videos of eight segments of three seconds; what is taken is put, mostly."""
    rng = np.random.default_rng(num_videos)
    columns = []
    for video in range(num_videos):
        action = int(rng.integers(ACTIONS))
        for number in range(8):
            name, start = f"{split[0]}{video}", number * SECONDS
            columns.append((f"{name}_é{number}", name, start, start + SECONDS, action))
            action = (action + 3) % ACTIONS if rng.random() < 0.9 else int(rng.integers(ACTIONS))
    uid, video_names, start_s, stop_s, ids = map(list, zip(*columns, strict=True))
    verb, noun = zip(*(PAIRS[i] for i in ids), strict=True)
    return Segments.of(
        uid=uid, video=video_names, start_s=start_s, stop_s=stop_s, verb=verb, noun=noun, action=ids
    )


def write_store(path: Path) -> Store:
    """Labels, a plain and a compressed stream (which lists its times), targets in both forms."""
    store = Store.create(path, backend="zarr")
    rng = np.random.default_rng(0)
    config = {"backbone": "none", "size": [224, 224], "mean": [0.5, None], "crop": {"centre": True}}
    for name, dtype in (("rgb", "float16"), ("flow", "float32")):
        settings = {"dim": DIM, "dtype": dtype, "fps": FPS, "source": "random", "config": config}
        store.create_stream(name, **settings, compressed=name == "flow")
    store.set_gap_rule("flow", step_s=0.5, max_age_s=2.0)
    for split, num_videos in (("train", 4), ("validation", 2)):
        own = segments(split, num_videos)
        store.write_labels(split, own, taxonomy(), source="made up")
        for video in own.videos:
            rows = rng.normal(size=(int(8 * SECONDS * FPS), DIM))
            attributes = {"path": f"{video}.mp4", "codec": "none", "frames": 720, "whole": True}
            store.write_features("rgb", video, rows.astype(np.float16), attributes=attributes)
            times = np.arange(len(rows)) / FPS
            store.write_features("flow", video, rows.astype(np.float32) / 3, times=times)
    uid = np.concatenate([store.labels(split).uid for split in store.splits()])
    dense = SoftTargets(
        uid=uid,
        valid=np.arange(len(uid)) % 7 != 0,
        logits=rng.normal(size=(len(uid), ACTIONS)).astype(np.float32),
        feature=rng.normal(size=(len(uid), 3)).astype(np.float32),
        attributes={"taxonomy": taxonomy().fingerprint, "kind": "random", "folds": 0},
    )
    store.write_targets("dense", dense)
    store.write_targets("sparse", dense.top_k(4))
    return store


def write_model(folder: Path) -> None:
    """A language model of random weights that knows the kitchen's words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *VERBS, *NOUNS]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, **{f"{name}_token": token for name, token in names.items()}
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=40,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


SIZES = ("layers", "heads", "width", "dropout")


def expected(store: Store) -> dict[str, Any]:
    """What is in the store: checksums of all arrays, and all attributes."""
    groups = ["labels", "targets", *(f"features/{name}" for name in store.streams())]
    keys = [f"{group}/{name}" for group in groups for name in store.backend.units(group)]
    return {key: store.backend.open(key)[1] for key in keys}


def write_runs(store: Store, folder: Path) -> dict[str, Any]:
    """A run of every head; the scores that each gave, and their metrics."""
    found = {}
    for name, head in HEADS.items():
        own = {k: getattr(SMALL.model, k) for k in SIZES if k in sizes_of(head)}
        config = SMALL.replace(**dict.fromkeys(SIZES))
        config = config.replace(**own, head=name, stream=("rgb",), targets=("dense",))
        result = train(store, folder / name, config)
        predictions = result.predictions
        truth = store.labels("validation")
        kept = np.isin(truth.uid, predictions.uid)
        metrics = score(
            predictions.scores,
            truth[kept],
            store.taxonomy,
            verb_noun_scores=predictions.verb_noun_scores,
        )
        found[name] = {"scores": predictions.scores[:3].tolist(), "metrics": metrics}
        shutil.rmtree(folder / name / "tensorboard", ignore_errors=True)
    return found


def write_teachers(store: Store, folder: Path) -> dict[str, Any]:
    """A teacher of every kind; the logits that each gives."""
    found = {}
    history = HistoryConfig()
    for kind, settings in TEACHERS.items():
        config = TargetConfig(kind=kind, settings=settings, history=history, folds=0)
        teach(store, kind, config, folder / kind)
        teacher, read = load_teacher(folder / kind, store.taxonomy)
        logits = teacher.predict(
            Timeline.of_store(store).examples(read, teacher.config.length)
        ).logits
        found[kind] = {"logits": logits[:5].tolist()}
        store.remove(f"targets/{kind}")
    return found


def main() -> None:
    """Write everything below the folder that is named."""
    torch.set_num_threads(1)
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "golden").absolute()
    out.mkdir(parents=True)
    os.chdir(out)  # nothing in the files names a folder of this machine
    store = write_store(Path("zarr"))
    convert(store, Path("hdf5"), ConvertConfig(backend="hdf5"))
    write_model(Path("model"))
    account = {
        "units": expected(store),
        "teachers": write_teachers(store, Path("teachers")),
        "runs": write_runs(store, Path("runs")),
    }
    shutil.rmtree("model")
    Path("expected.json").write_text(json.dumps(account, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
