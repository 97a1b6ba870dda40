"""50 Salads in small: videos of a few cuts, and scores that show them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

ACTIONS = (
    *("cut_tomato", "place_tomato_into_bowl", "cut_cheese", "place_cheese_into_bowl"),
    *("cut_lettuce", "place_lettuce_into_bowl", "add_salt", "add_vinegar", "add_oil"),
    *("add_pepper", "mix_dressing", "peel_cucumber", "cut_cucumber"),
    *("place_cucumber_into_bowl", "add_dressing", "mix_ingredients", "serve_salad_onto_plate"),
)
MARKS = ("action_start", "action_end")
SPLITS, VIDEOS, FPS = 3, 5, 30
FIRST_S = 12


def write_salads(folder: Path) -> None:
    """The files of 50 Salads, with three splits of five short videos each."""
    folder.mkdir(parents=True)
    (folder / "mapping.txt").write_text(
        "".join(f"{i} {name}\n" for i, name in enumerate((*ACTIONS, *MARKS), start=1))
    )
    columns = ["background", *sorted(ACTIONS)]  # not in the order of the mapping
    (folder / "labels_mid.txt").write_text("\n".join(columns) + "\n")
    rows, arrays = ["video,start_frame,stop_frame,label"], {}
    rng = np.random.default_rng(0)
    for split, number in itertools.product(range(1, SPLITS + 1), range(VIDEOS)):
        video = f"rgb-{number:02d}-{split}"
        pairs = rng.permutation([0, 2, 4, 12])
        labels = [ACTIONS[i] for first in pairs for i in (first, first + 1)]
        lasting = [FIRST_S, *rng.integers(4, 9, len(labels)).tolist(), 3]
        edges = np.cumsum([0, *lasting])
        for label, start, stop in zip(
            (MARKS[0], *labels, MARKS[1]), edges[:-1], edges[1:], strict=True
        ):
            rows.append(f"{video},{start * FPS},{stop * FPS},{label}")
        true = np.repeat([columns.index(label) for label in labels], lasting[1:-1])
        scores = rng.normal(-1, 0.4, (len(true), len(columns)))
        scores[np.arange(len(true)), true] += 2.0
        arrays |= {
            f"{video}/scores": scores.astype(np.float32),
            f"{video}/start_s": np.float64(FIRST_S),
            f"{video}/split": np.int64(split),
        }
    (folder / "segments.csv").write_text("\n".join(rows) + "\n")
    np.savez(folder / "frame_scores_mid.npz", **arrays)
