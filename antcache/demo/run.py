"""The demo: generate a kitchen, then run the whole method on it through the library's own calls.

Promise: nothing here that a user could not do with the same calls on files of their own. The seeds
below were fixed before the first run; both students get the same architecture, data order, budget
and settings, and the last epoch of every run counts. The students' settings were set on another
seed, by what fits into four minutes and by where the plain student's validation curve levels off.
"""

from __future__ import annotations

import csv
import importlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from antcache import __version__
from antcache.annotations import protocol_for, read_annotations
from antcache.checks import Count, Positive, Seed, check_types
from antcache.demo.kitchen import DATASET, RECIPES, Kitchen, KitchenConfig, generate
from antcache.demo.render import RenderConfig, render
from antcache.demo.report import DISTILLED, PLAIN, DemoOutcome, SeedRuns, write_report
from antcache.errors import needs
from antcache.evaluation.metrics import score
from antcache.evaluation.report import Films
from antcache.extract import ExtractConfig, extract, find_videos, load_backbone
from antcache.extract.sources.strips import FilmStrips
from antcache.files import FolderKind, atomic_file, atomic_folder
from antcache.predict import Anticipation, Anticipator
from antcache.predict.answers import KEPT
from antcache.predict.film import write_film
from antcache.predict.page import ShownVideo, write_page
from antcache.predict.truth import truths
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.store.integrity.info import describe
from antcache.student.config import StudentConfig
from antcache.student.runs.train import RunResult, train
from antcache.teacher.scripts import read_scripts
from antcache.teacher.targets import TargetConfig
from antcache.teacher.teach import teach
from antcache.tensors import write_tensors

log = logging.getLogger(__name__)

PACKAGES = ("av", "transformers", "jinja2", "PIL")
"""What the demo needs beyond the library's own dependencies."""

PAGE, FILM = "predictions.html", "predictions.mp4"
"""What a student says of a held-out video, beside the report."""
ASKED_EVERY_S = 0.5
"""Seconds between two times at which it is asked."""

FILM_HEIGHT = 96
"""Of the report's pictures, in pixels."""

MARK = "demo.json"
"""File that says that a folder is a demo's, and with which settings it was made."""

DEMO = FolderKind(what="a demo", mark=MARK)


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Every setting of the demo."""

    kitchen: KitchenConfig = field(default_factory=KitchenConfig)
    render: RenderConfig = field(default_factory=RenderConfig)
    extract_fps: Positive = 4.0
    """Rows per second in the store."""
    teacher: str = "sequence"
    """Kind of the teacher."""
    teacher_epochs: Count = 4
    """Passes of the sequence teacher over labels and scripts."""
    student: StudentConfig = field(
        default_factory=lambda: StudentConfig.of(
            layers=2, heads=4, width=128, lr=1e-3, batch_size=64, epochs=40, evaluate_every=2
        )
    )
    """What both students share."""
    seeds: tuple[Seed, ...] = (1, 2, 3)
    """Seeds of the students, fixed before looking."""

    def __post_init__(self) -> None:
        check_types(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


class Steps:
    """What was done, how long it took and what came of it, in `done`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float, str]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; what is appended to the list becomes its result."""
        result: list[str] = []
        start = time.monotonic()
        yield result
        self.done.append((name, time.monotonic() - start, " ".join(result)))
        log.info("%s: %.1f s, %s", *self.done[-1])


def run_demo(
    output: Path,
    config: DemoConfig | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = silent,
) -> DemoOutcome:
    """Run the demo into the folder `output` and write `output/report.html`.

    Beside it are `predictions.html` and `predictions.mp4`: what the first seed's distilled student
    expects in the first held-out video, by name.

    Raises:
        AlreadyExists: `output` holds something, and it is not a demo that may be overwritten.
        WriteFailed: the disk refused.
        MissingExtra: a package of the extra `demo` is missing.
    """
    config = config or DemoConfig()
    _prepare(output, config, overwrite=overwrite)
    steps = Steps()
    store, _ = build_store(output, config, steps, progress)
    _teach(config, output, store, steps, progress)
    outcome = _learn(config, output, store, steps, progress)
    _predict(config, output, store, steps)
    with steps.step("report") as result:
        report = output / "report.html"
        write_report(
            outcome,
            Films(FilmStrips(output / "videos", height=FILM_HEIGHT)),
            report,
            example_seed=config.kitchen.seed,
        )
        result.append(str(report))
    return outcome


def _prepare(output: Path, config: DemoConfig, *, overwrite: bool) -> None:
    """A folder with our mark alone in it; only an older demo is ever deleted."""
    for package in PACKAGES:  # now, not after minutes of work
        with needs(package, "demo"):
            importlib.import_module(package)
    DEMO.check(output, overwrite=overwrite)
    with atomic_file(output / MARK, overwrite=True) as staged:
        staged.write_text(json.dumps(config.to_dict(), indent=1), "utf-8")
    for path in output.iterdir():  # the mark stays throughout: killed here, it is still a demo
        if path.name == MARK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def build_store(
    output: Path, config: DemoConfig, steps: Steps, progress: Progress = silent
) -> tuple[Store, dict[str, Path]]:
    """Render the kitchen into `output`, which exists; import its labels, extract its features.

    Returns:
        The store `output/kitchen.zarr`, and the file of each video.
    """
    store, videos = write_kitchen(output, config, steps, progress)
    _extract(config, output, store, steps, progress)
    return store, videos


def write_kitchen(
    output: Path, config: DemoConfig, steps: Steps, progress: Progress = silent
) -> tuple[Store, dict[str, Path]]:
    """Render the kitchen into `output`, which exists; import its labels, save its backbone.

    Returns:
        The store `output/kitchen.zarr`, still without features, and the file of each video.
    """
    kitchen = generate(config.kitchen)
    videos = _write_videos(kitchen, config, output, steps, progress)
    store = _write_labels(kitchen, output, steps)
    _save_backbone(output / "backbone", config.render.size, config.kitchen.seed)
    return store, videos


def _write_videos(
    kitchen: Kitchen, config: DemoConfig, output: Path, steps: Steps, progress: Progress
) -> dict[str, Path]:
    """Render every timeline as an MP4 file."""
    (output / "videos").mkdir()
    lines = [line for split in kitchen.splits.values() for line in split]
    paths = {line.video: output / "videos" / f"{line.video}.mp4" for line in lines}
    with steps.step("render videos") as result:
        for done, line in enumerate(lines):
            progress("rendering videos", done, len(lines))
            seed = config.kitchen.seed
            render(line, kitchen.taxonomy, config.render, paths[line.video], seed=seed)
        progress("rendering videos", len(lines), len(lines))
        seconds = sum(line.duration_s for line in lines)
        result.append(f"{len(lines)} MP4 files, {seconds / 60:.0f} minutes")
    return paths


def _write_labels(kitchen: Kitchen, output: Path, steps: Steps) -> Store:
    """Annotations as plain CSV, scripts as plain text; then read back as a user's would be."""
    folder = output / "labels"
    folder.mkdir()
    taxonomy = kitchen.taxonomy
    for split in kitchen.splits:
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["uid", "video", "start", "stop", "verb", "noun", "action"])
            s = kitchen.segments(split)
            for i in range(len(s)):
                names = taxonomy.verbs[s.verb[i]], taxonomy.nouns[s.noun[i]]
                times = f"{s.start_s[i]:.2f}", f"{s.stop_s[i]:.2f}"
                action = taxonomy.actions[s.action[i]]
                writer.writerow([s.uid[i], s.video[i], *times, *names, action])
    with steps.step("import annotations") as result:
        data = read_annotations("table", folder, name=DATASET)
        store = Store.create(output / "kitchen.zarr", dataset=DATASET)
        for split, segments in data.splits.items():
            store.write_labels(split, segments, data.taxonomy, source=data.source)
            result.append(f"{len(segments)} {split} segments,")
        known = set(data.taxonomy.actions)  # an action that no video shows is no class
        texts = [[taxonomy.actions[a] for a in script] for script in kitchen.scripts]
        lines = [", ".join(names) for names in texts if known.issuperset(names)]
        (output / "scripts.txt").write_text("\n".join(lines) + "\n", "utf-8")
        result.append(f"{len(known)} actions; {len(lines)} text-only scripts")
    return store


def _extract(
    config: DemoConfig, output: Path, store: Store, steps: Steps, progress: Progress
) -> None:
    """Features of every video by a small frozen backbone."""
    with steps.step("extract features") as result:
        settings = ExtractConfig(fps=config.extract_fps)
        videos = find_videos(output / "videos")
        extract(videos, store, load_backbone(str(output / "backbone")), settings, progress)
        info = describe(store)["features"]["rgb"]
        result.append(f"{info['rows']} rows of {info['dim']} at {info['fps']:g} per second")


def _save_backbone(folder: Path, size: int, seed: int) -> None:
    """A small ConvNeXt with random weights, saved as any transformers model is.

    Random convolutions still tell shapes and colours apart, which is all that this kitchen needs;
    real use loads a pretrained model by its hub id or folder instead.
    """
    import torch
    from transformers import ConvNextConfig, ConvNextModel

    config = ConvNextConfig(
        hidden_sizes=[32, 64, 128, 256],
        depths=[1, 1, 1, 1],
        initializer_range=0.2,
        layer_scale_init_value=0.1,
        image_size=size,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = ConvNextModel(config).state_dict()
    preprocessing = {
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "crop_pct": 1.0,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }
    text = json.dumps(preprocessing, indent=1)
    with atomic_folder(folder) as staged:
        config.save_pretrained(staged)
        write_tensors(staged / "model.safetensors", weights, {"format": "pt"})
        (staged / "preprocessor_config.json").write_text(text, "utf-8")


def _teach(
    config: DemoConfig, output: Path, store: Store, steps: Steps, progress: Progress
) -> None:
    """Train the teacher on labels and scripts; write soft targets for every segment."""
    with steps.step("train teacher, write soft targets") as result:
        settings = {"epochs": config.teacher_epochs, "seed": config.kitchen.seed}
        targets = teach(
            store,
            "text",
            TargetConfig(kind=config.teacher, settings=settings),
            output / "teachers" / "text",
            scripts=read_scripts(output / "scripts.txt", store.taxonomy),
            progress=progress,
        )
        valid = int(targets.valid.sum())
        result.append(f"{valid} of {len(targets)} segments have a target")


def _predict(config: DemoConfig, output: Path, store: Store, steps: Steps) -> None:
    """Ask a distilled student about a held-out video; write what it says as a page and a film."""
    with steps.step("predict a held-out video") as result:
        video = min(store.labels("validation").videos)
        file = output / "videos" / f"{video}.mp4"
        run = output / "runs" / f"{DISTILLED}-{config.seeds[0]}"
        anticipator = Anticipator.load(run, backbone=output / "backbone")
        asked = anticipator.each(file, every=ASKED_EVERY_S, top=KEPT)
        answers = [each for each in asked if isinstance(each, Anticipation)]
        truth = truths(store, store.taxonomy, [video])[video]
        shown = ShownVideo(name=video, answers=answers, source=file, truth=truth)
        write_page(output / PAGE, [shown], anticipator.student, labelled=True)
        write_film(output / FILM, file, answers)
        result.append(f"{video} at {len(answers)} times: {PAGE}, {FILM}")


def _learn(
    config: DemoConfig, output: Path, store: Store, steps: Steps, progress: Progress
) -> DemoOutcome:
    """Train both students on every seed and score them, and the teacher, on the same segments."""
    students = {
        PLAIN: config.student,
        DISTILLED: config.student.replace(targets=("text",)),
    }
    trained: dict[str, list[RunResult]] = {}
    for name, student in students.items():
        with steps.step(f"train {name} student") as result:
            trained[name] = []
            for seed in config.seeds:
                run = output / "runs" / f"{name}-{seed}"
                settings = student.replace(seed=seed)
                trained[name].append(train(store, run, settings, progress=progress))
            result.append(f"{len(config.seeds)} seeds, {student.optimization.epochs} epochs each")
    validation = store.labels("validation")
    segments = validation[validation.locate(trained[PLAIN][0].predictions.uid)]
    targets = store.targets("text")
    assert targets.logits is not None
    teacher_scores = targets.logits[targets.rows_for(segments.uid)]
    return DemoOutcome(
        taxonomy=store.taxonomy,
        segments=segments,
        teacher=score(teacher_scores, segments, store.taxonomy),
        teacher_scores=teacher_scores,
        runs={name: _collect(results) for name, results in trained.items()},
        steps=steps.done,
        settings={
            "protocol": asdict(protocol_for(DATASET)),
            "kitchen": config.kitchen.to_dict(),
            "recipes": {name: [str(step) for step in steps] for name, steps in RECIPES.items()},
            "rendering": config.render.to_dict(),
            "teacher": {k: v for k, v in targets.attributes.items() if k != "checksums"},
            "plain student": students[PLAIN].to_dict(),
            "distilled student": students[DISTILLED].to_dict(),
            "student seeds": list(config.seeds),
            "antcache": __version__,
        },
    )


def _collect(trained: list[RunResult]) -> SeedRuns:
    """The runs of all seeds as arrays."""
    history = [result.history for result in trained]
    scored = [[epoch for epoch in epochs if "validation" in epoch] for epochs in history]
    return SeedRuns(
        metrics=[result.metrics for result in trained],
        curves={
            key: np.array([[epoch["validation"][key] for epoch in epochs] for epochs in scored])
            for key in ("action/top1", "action/recall@5")
        },
        epochs=np.array([epoch["epoch"] for epoch in scored[0]]),
        loss=np.array([[epoch["action_loss"] for epoch in epochs] for epochs in history]),
        scores=np.stack([result.predictions.scores for result in trained]),
    )
