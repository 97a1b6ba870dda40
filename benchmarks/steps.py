"""How long do the steps of EPIC-KITCHENS-100 take for which nobody needs its videos?

    python benchmarks/steps.py [--record] [--segments N] [--bootstrap N] [--folder FOLDER]

Commands of docs/tokens.md, each a process of its own, with the real labels: their import; the
figures of predictions for validation, with intervals; a submission for the test segments, which is
checked against the challenge's schema. Scores are random, of actions, verbs and nouns: neither time
nor bytes depend on them. Wall time of one call of each, on as many cores as there are. Without the
data, which antcache does not bring, nothing is measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import DATA, Figure, finish

from antcache.evaluation import Predictions
from antcache.evaluation.submission.segment_lists import read_uids
from antcache.store import Store

LABELS = DATA / "epic-kitchens-100" / "rulstm"
TEST = DATA / "epic-kitchens-100" / "official" / "EPIC_100_test_timestamps.csv"


def antcache(folder: Path, *words: object) -> float:
    """Seconds of a command in `folder`."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "antcache", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{words}: exit code {done.returncode}: {done.stderr}")
    return time.perf_counter() - began


def megabytes(path: Path) -> float:
    """Size of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def random_predictions(store: Store, uid: np.ndarray[Any, Any], path: Path) -> None:
    """Write scores for segments as a run with classifiers of verbs and nouns has them."""
    rng, classes = np.random.default_rng(0), store.taxonomy
    sizes = {
        "scores": len(classes.actions),
        "verb_scores": len(classes.verbs),
        "noun_scores": len(classes.nouns),
    }
    scores = {k: rng.standard_normal((len(uid), n), dtype=np.float32) for k, n in sizes.items()}
    fingerprint = classes.fingerprint
    Predictions(uid=uid, split="validation", taxonomy=fingerprint, **scores).save(path)


def measure(folder: Path, count: int | None, bootstrap: int) -> list[Figure]:
    """Seconds and megabytes of the steps, for `count` segments of each list; None: for all."""
    seconds = {
        "labels": antcache(folder, "annotations", "import", "epic-kitchens-100", LABELS, "s")
    }
    store = Store.open(folder / "s")
    random_predictions(store, store.labels("validation").uid[:count], folder / "val.safetensors")
    seconds["figures"] = antcache(
        folder, "evaluate", "s", "val.safetensors", "--bootstrap", bootstrap
    )
    listed = folder / "test.csv"
    lines = TEST.read_text().splitlines(keepends=True)
    listed.write_text("".join(lines if count is None else lines[: 1 + count]))
    uid = np.array(read_uids(listed))
    random_predictions(store, uid, folder / "test.safetensors")
    words = ["submit", "s", "test.safetensors", "--challenge", "ek100", "--segments", listed]
    words += ["--levels", "1,3,3", "--output", "test.json"]
    seconds["submission"] = antcache(folder, *words)
    sizes = {"labels": "s", "predictions": "test.safetensors", "submission": "test.json"}
    counts = {"figures": len(store.labels("validation").uid[:count])}
    counts |= dict.fromkeys(("predictions", "submission"), len(uid))
    rows = [(f"{name}: time", value, "s") for name, value in seconds.items()]
    rows += [(f"{k}: disk", megabytes(folder / file), "MB") for k, file in sizes.items()]
    return [
        Figure(figure=name, value=round(value, 2), unit=unit, n=counts.get(name.split(":")[0], 1))
        for name, value, unit in rows
    ]


def main() -> None:
    """Measure, print, and record if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument("--segments", type=int, help="of each list (default: all)")
    parser.add_argument("--bootstrap", type=int, default=1_000, help="resamples of intervals")
    parser.add_argument("--folder", type=Path, help="where files go (default: temporary)")
    arguments = parser.parse_args()
    if not (LABELS.is_dir() and TEST.is_file()):
        raise SystemExit(f"the labels of EPIC-KITCHENS-100 are not in {DATA}: set ANTCACHE_DATA")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = measure(Path(folder), arguments.segments, arguments.bootstrap)
    for figure in figures:
        print(f"{figure.figure:24}{figure.value:10,.1f} {figure.unit}")
    finish("steps", figures, record=arguments.record)


if __name__ == "__main__":
    main()
