"""A small generated kitchen in the form of EPIC-KITCHENS-55, with all that the pages speak of."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
import versions
from PIL import Image

from antcache.store import Store

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # doc_pages

Antcache = Callable[..., forked.Outcome]
NUM_VERBS, NUM_NOUNS = 125, 352  # of EPIC-KITCHENS-55, as its submissions must have them
NUM_VERBS_100, NUM_NOUNS_100 = 97, 300  # of EPIC-KITCHENS-100
RUN = ("student", "train", "kitchen.zarr", "--epochs", "1", "--held-out", "0.3")


@pytest.fixture(scope="session")
def antcache() -> Iterator[Antcache]:
    """Runs `antcache WORDS` in a folder; the command must work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a process that has threads must not fork
    forked.preload()

    def run(folder: Path, *words: str) -> forked.Outcome:
        done = forked.run(words, folder=folder, timeout_s=300)
        assert done.code == 0, (words, done.stdout, done.stderr)
        return done

    yield run
    torch.set_num_threads(threads)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_epic_kitchens(kitchen: Path) -> None:
    """The kitchen's labels as RULSTM writes EPIC-KITCHENS-55, and a test list without labels."""
    folder = kitchen / "epic-kitchens-55"
    folder.mkdir()
    splits = {"training": read(kitchen / "labels/train.csv")}
    splits["validation"] = read(kitchen / "labels/validation.csv")
    every = [row for rows in splits.values() for row in rows]
    verbs, nouns = (sorted({row[what] for row in every}) for what in ("verb", "noun"))
    pairs = [(v, n) for v in range(len(verbs)) for n in range(len(nouns))]
    verbs += [f"verb-{i}" for i in range(len(verbs), NUM_VERBS)]  # nobody does these
    nouns += [f"noun-{i}" for i in range(len(nouns), NUM_NOUNS)]
    rows = [f"{i}, {verbs[v]}_{nouns[n]},{v},{n}" for i, (v, n) in enumerate(pairs)]
    (folder / "actions.csv").write_text("\n".join(["id,action,verb,noun", *rows]) + "\n")
    for what, names in (("verb", verbs), ("noun", nouns)):
        rows = [f"{i},{name},\"['{name}']\"" for i, name in enumerate(names)]
        header = f"{what}_id,class_key,{what}s"
        (folder / f"EPIC_{what}_classes.csv").write_text("\n".join([header, *rows]) + "\n")
    uid = 0
    for split, segments in splits.items():
        rows, asked = [], []
        for s in segments:
            verb, noun = verbs.index(s["verb"]), nouns.index(s["noun"])
            start, stop = (round(30 * float(s[key])) for key in ("start", "stop"))
            when = f"{uid:05d}, {s['video']}, {start:010d}, {stop:010d}"
            rows.append(f"{when}, {verb:03d}, {noun:03d}, {pairs.index((verb, noun)):04d}")
            asked.append(when)
            uid += 1
        (folder / f"{split}.csv").write_text("\n".join(rows) + "\n")
        (kitchen / "test_seen.csv").write_text("\n".join(asked) + "\n")  # of the last split
    shutil.copytree(folder, kitchen / "annotations")


def write_epic_kitchens_100(kitchen: Path) -> None:
    """Some of the kitchen's labels in the official form of EPIC-KITCHENS-100: every ninth segment,
    since each is up to ten clips; one video is the test's."""
    folder = kitchen / "epic-kitchens-100"
    folder.mkdir()
    train, validation = (read(kitchen / f"labels/{split}.csv") for split in ("train", "validation"))
    test = train[-1]["video"]
    seen = {w: sorted({row[w] for row in (*train, *validation)}) for w in ("verb", "noun")}
    classes = {}
    for what, count in (("verb", NUM_VERBS_100), ("noun", NUM_NOUNS_100)):
        more = (f"{what}-{i}" for i in range(len(seen[what]), count))  # nobody does these
        names = [*seen[what], *more]
        rows = [f"{i},{name},\"['{name}']\",any" for i, name in enumerate(names)]
        text = "\n".join(["id,key,instances,category", *rows]) + "\n"
        (folder / f"EPIC_100_{what}_classes.csv").write_text(text)
        classes[what] = names
    pairs = [(v, n) for v in range(len(seen["verb"])) for n in range(len(seen["noun"]))]
    names = [f"{classes['verb'][v]} {classes['noun'][n]}" for v, n in pairs]
    rows = [f"{i},{v},{n},{names[i]}" for i, (v, n) in enumerate(pairs)]
    (folder / "actions.csv").write_text("\n".join(["id,verb,noun,action", *rows]) + "\n")
    splits = {
        "train": [row for row in train if row["video"] != test],
        "validation": validation,
        "test_timestamps": [row for row in train if row["video"] == test],
    }
    for split, segments in splits.items():
        rows = []
        for number, segment in enumerate(segments[::9]):
            video, verb, noun = (segment[key] for key in ("video", "verb", "noun"))
            seconds = [float(segment[key]) for key in ("start", "stop")]
            start, stop = (f"00:{s // 60:02.0f}:{s % 60:05.2f}" for s in seconds)
            person = f"P{video[-2:]}"
            row = {"narration_id": f"{person}_01_{number}", "participant_id": person}
            row |= {"video_id": video}
            row |= {"narration_timestamp": start, "start_timestamp": start, "stop_timestamp": stop}
            row |= {"start_frame": round(50 * seconds[0]), "stop_frame": round(50 * seconds[1])}
            if split != "test_timestamps":
                row |= {"narration": f"{verb} {noun}", "verb": verb, "noun": noun}
                row |= {f"{what}_class": classes[what].index(row[what]) for what in classes}
                row |= {"all_nouns": [noun], "all_noun_classes": [row["noun_class"]]}
            rows.append(row)
        with (folder / f"EPIC_100_{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def write_vjepa2(folder: Path) -> None:
    """A small V-JEPA 2 with random weights, whose clips are as long as the recipe's."""
    from transformers import VJEPA2Config, VJEPA2Model

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"crop_size": 64, "frames_per_clip": 32, "pred_hidden_size": 24}
    sizes |= {"pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
    VJEPA2Model(VJEPA2Config(**sizes)).save_pretrained(folder)
    processor = {
        "video_processor_type": "VJEPA2VideoProcessor",
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 64, "width": 64},
    }
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor))


def write_predictions(kitchen: Path) -> None:
    """A teacher's pickles, as the distillation paper's."""
    random = np.random.default_rng(0)
    actions = len((kitchen / "epic-kitchens-55/actions.csv").read_text().splitlines()) - 1
    for split, name in (("training", "train"), ("validation", "validation")):
        lines = (kitchen / f"epic-kitchens-55/{split}.csv").read_text().splitlines()
        entries: list[dict[str, Any]] = [
            {
                "uid": int(line.split(",")[0]),
                "logit_action": random.standard_normal(actions).astype(np.float32),
            }
            for line in lines
        ]
        (kitchen / f"{name}.pkl").write_bytes(pickle.dumps(entries))


PUBLISHED = {
    "ego4d/omnivore_video_swinl": (".pt", (4, 1536)),
    "thumos/i3d_features": (".npy", (4, 2048)),
    "anet_1.3/tsp_features": (".npy", (4, 512)),
    "epic_kitchens/features": (".npz", (4, 2304)),
    "gtea/features": (".npy", (2048, 4)),
}
"""Folders of features as others publish them: ending and shape of a file."""


def write_arrays(kitchen: Path) -> None:
    """A file of each kind that others publish."""
    for name, (ending, shape) in PUBLISHED.items():
        folder = kitchen / name
        folder.mkdir(parents=True)
        array = np.ones(shape, dtype=np.float32)
        if ending == ".pt":
            torch.save(torch.from_numpy(array), folder / "video.pt")
        elif ending == ".npz":
            np.savez(folder / "video.npz", feats=array)
        else:
            np.save(folder / "video.npy", array)


def write_sources(kitchen: Path) -> None:
    """What else videos are spread as: frames, packed frames, chapters and lists."""
    film = sorted((kitchen / "videos").glob("*.mp4"))[0]
    frames = kitchen / "frames/P01/P01_01"
    frames.mkdir(parents=True)
    for number in range(1, 31):
        Image.new("RGB", (64, 48), (number, 0, 0)).save(frames / f"frame_{number:010d}.jpg")
    (kitchen / "tars").mkdir()
    with tarfile.open(kitchen / "tars/P01_02.tar", "w") as tar:
        tar.add(frames, ".")
    times = [f"P01_02,{number},{number / 60}" for number in range(1, 31)]
    (kitchen / "times.csv").write_text("\n".join(["video,frame,seconds", *times]) + "\n")
    for name in ("gopro/GX010123.MP4", "gopro/GX020123.MP4", "parts/1.mp4", "parts/2.mp4"):
        (kitchen / name).parent.mkdir(exist_ok=True)
        shutil.copy(film, kitchen / name)
    rows = "video,file,start_s\nday,1.mp4,\nday,2.mp4,\n"
    (kitchen / "chapters.csv").write_text(rows)
    (kitchen / "videos.txt").write_text(f"# ours\nvideos/{film.name}\nparts\n")
    (kitchen / "videos.csv").write_text("video,path\nmorning,parts/1.mp4\n")


def write_tokens(path: Path) -> None:
    """A store with a stream of tokens."""
    store = Store.create(path)
    settings: dict[str, Any] = {"dim": 2, "dtype": "float16", "fps": 4.0, "source": "random"}
    store.create_stream("vjepa", grid=(16, 8, 8), config={}, **settings)
    rows = np.random.default_rng(0).standard_normal((2, 16 * 8 * 8, 2))
    store.write_features("vjepa", "P01_01", rows.astype(np.float16))


def write_recipes(path: Path) -> None:
    """A few recipes in the form of Recipe1M's `layer1.json`."""
    texts = ("Take the pan.", "Pour the water and the oil.", "Cut the onion.", "Put the plate.")
    recipes = [
        {
            "id": f"r{i}",
            "partition": "val" if i == 0 else "train",
            "instructions": [{"text": texts[(i + k) % len(texts)]} for k in range(3)],
        }
        for i in range(8)
    ]
    path.write_text(json.dumps(recipes))


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory, antcache: Antcache) -> Path:
    """Everything that a command of the pages may ask for, made once; copy it before you use it.

    `videos`, `annotations` (= `epic-kitchens-55`), `backbone`, `words` (a language model),
    `layer1.json` (recipes), `kitchen.zarr` with features and the soft targets `sequence`,
    `labels.zarr` with labels alone, `tokens.zarr` with tokens alone, two runs, LMDBs `rulstm/*`,
    pickles, `test_seen.csv`, the folders of arrays in `PUBLISHED`, `epic-kitchens-100` in its
    official form, `vjepa2-l`, a backbone of tokens, and the other forms of videos of
    `write_sources`.
    """
    folder = tmp_path_factory.mktemp("kitchen")
    versions.make_kitchen(folder, recipes=1, tiny=True)
    write_epic_kitchens(folder)
    write_epic_kitchens_100(folder)
    write_vjepa2(folder / "vjepa2-l")
    write_predictions(folder)
    for store in ("kitchen.zarr", "labels.zarr"):
        antcache(folder, "annotations", "import", "epic-kitchens-55", "annotations", store)
    antcache(folder, "extract", "videos", "kitchen.zarr", "--backbone", "backbone")
    teacher = (
        "--name",
        "sequence",
        "--kind",
        "sequence",
        "--epochs",
        "1",
        "--output",
        "trained/teacher",
    )
    antcache(folder, "teacher", "train", "kitchen.zarr", *teacher)
    antcache(folder, *RUN, "--run", "trained/plain")
    antcache(folder, *RUN, "--run", "trained/distilled", "--targets", "sequence")
    for stream in ("rgb", "flow", "obj"):
        words = ("--stream", "rgb", "--output", f"rulstm/{stream}")
        (folder / "rulstm").mkdir(exist_ok=True)
        antcache(folder, "export", "lmdb", "kitchen.zarr", *words)
    write_arrays(folder)
    write_recipes(folder / "layer1.json")
    write_tokens(folder / "tokens.zarr")
    write_sources(folder)
    return folder
