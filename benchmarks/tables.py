"""Writes the tables of measured figures from `benchmarks/results/`, and from nothing else.

The options of a measured teacher are those of the benchmark that measures it.

    python benchmarks/tables.py            # rewrite the tables in README.md and docs/
    python benchmarks/tables.py --check    # exit 1 if they are not what the results say

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
Records = dict[str, dict[str, Any]]


def records(benchmark: str, device: str = "") -> Records:
    """Newest records of a benchmark by figure, of devices whose names start so."""
    found = json.loads((ROOT / "benchmarks/results" / f"{benchmark}.json").read_text("utf-8"))
    there = (r for r in found if str(r["device"]).startswith(device))
    return {r["figure"]: r for r in sorted(there, key=lambda r: str(r["date"]))}


def value(record: dict[str, Any], digits: int = 1) -> str:
    """Mean, and the deviation over runs where there are several."""
    spread = record["spread"]
    return f"{record['value']:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def source(found: Records, benchmark: str) -> str:
    """Where the figures come from."""
    newest = list(found.values())[-1]
    versions = newest["versions"]
    return (
        f"`benchmarks/{benchmark}.py`, {newest['device']}, torch {versions['torch']}, "
        f"{newest['date']}."
    )


def demo() -> str:
    """Both students of the demo side by side."""
    found = records("demo")
    lines = ["| validation, percent | plain student | distilled student |", "|---|---|---|"]
    for name in ("action top-1", "action top-5", "action class-mean recall@5"):
        cells = " | ".join(value(found[f"{name}, {who}"]) for who in ("plain", "distilled"))
        lines.append(f"| {name} | {cells} |")
    seconds = found["whole demo"]["value"]
    lines += ["", f"Mean ± deviation over three seeds; the whole demo took {seconds:.0f} s."]
    lines[-1] += f" {source(found, 'demo')}"
    return "\n".join(lines) + "\n"


def options(settings: Mapping[str, Any]) -> str:
    """Settings of a teacher as the options of `antcache teacher train` that make them."""
    words = (f"--set {name}={json.dumps(each)}" for name, each in settings.items())
    return " ".join(words)


def teacher_label(kind: str) -> str:
    """A kind of teacher and its options, where those are short; `language_options` has the rest."""
    from teachers import MEMBERS

    short = kind in MEMBERS and kind != "language"
    return f"{kind} `{options(MEMBERS[kind])}`" if short else kind


def language_options() -> str:
    """Options of the language teacher, but for its model, which is a folder."""
    from teachers import LANGUAGE

    return options({name: each for name, each in LANGUAGE.items() if name != "model"})


KINDS = ("count", "sequence", "language", "ensemble")
PUBLISHED = {"complete": ("19.1", "36.6", "22.4")}


def teachers() -> str:
    """Teachers on the real EPIC-KITCHENS-55 labels."""
    found = records("teachers")
    names = ("top-1", "top-5", "many-shot recall@5")
    lines = [
        "| teacher on EPIC-KITCHENS-55 labels, percent | history | top-1 | top-5 | "
        "many-shot class-mean recall@5 |",
        "|---|---|---|---|---|",
    ]
    for mode in ("complete", "observed"):
        for kind in KINDS:
            if f"{kind}, {mode} history: top-1" in found:
                cells = (value(found[f"{kind}, {mode} history: {name}"]) for name in names)
                lines.append(f"| {teacher_label(kind)} | {mode} | {' | '.join(cells)} |")
        if mode in PUBLISHED:
            cells = " | ".join(PUBLISHED[mode])
            lines.append(f"| best published of each column | {mode} | {cells} |")
    lines += ["", "All 4,979 validation segments, the official many-shot list; all but the count"]
    lines[-1] += " teacher on three seeds. Rows with `--set` are trained with that option of"
    lines[-1] += " `antcache teacher train`; language: MiniLM, adapted to 393 recipes, with"
    lines[-1] += f" `{language_options()}`; ensemble: the mean of the other three."
    lines[-1] += f" {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


def egtea() -> str:
    """Teachers on the real EGTEA Gaze+ labels."""
    found = records("teachers")
    names = ("top-1", "top-5", "class-mean top-1", "class-mean recall@5")
    lines = [f"| teacher | history | {' | '.join(names)} |", "|---|---|---|---|---|---|"]
    for mode in ("gappy", "complete", "observed"):
        for kind in (*KINDS, "published settings"):
            if f"EGTEA: {kind}, {mode} history: top-1" in found:
                cells = (value(found[f"EGTEA: {kind}, {mode} history: {name}"]) for name in names)
                lines.append(f"| {teacher_label(kind)} | {mode} | {' | '.join(cells)} |")
    lines += ["", "Split 1, 2,022 validation segments, tau_a 0.5 s; options as in the first"]
    lines[-1] += " table."
    lines[-1] += f" {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


ENDS = ("lower end", "upper end")
CONDITIONS = {
    "plain": "labels alone",
    "smoothing": "labels, smoothed to equal entropy",
    "brief-smoothing": "the same, trained as long as labels alone",
    "paper": "the paper's way",
    "ours": "antcache",
    "shuffled": "antcache, teacher shuffled",
    "gappy": "antcache, teacher told of no validation segment",
    "unadjusted-plain": "labels alone, tuned without logit adjustment",
    "unadjusted-ours": "antcache, tuned without it; gain over the line above",
    "default-plain": "labels alone, default head",
    "default-ours": "antcache, default head; gain over the line above",
}


def distillation() -> str:
    """What distillation is worth, on simulated features over the real timelines."""
    found = records("distillation")
    parts = []
    for prefix, title, names in (
        ("", "EPIC-KITCHENS-55", ("top-1", "top-5", "many-shot recall@5")),
        ("EGTEA: ", "EGTEA Gaze+", ("top-1", "top-5", "class-mean top-1")),
    ):
        head = f"{title}, simulated features, percent"
        lines = [f"| {head} | {' | '.join(names)} | gain | by seed | by video |"]
        lines.append("|---|---|---|---|---|---|---|")
        for condition, label in CONDITIONS.items():
            if f"{prefix}{condition}: top-1" not in found:
                continue
            cells = [value(found[f"{prefix}{condition}: {name}"]) for name in names]
            base = condition.replace("ours", "plain") if condition.endswith("-ours") else "plain"
            over = f"{prefix}{condition} over {base}, {names[-1]}"
            if f"{over}: relative gain" in found:
                cells.append(f"{found[f'{over}: relative gain']['value']:+.1f} %")
                for ends in ("by seeds", "by videos"):
                    low, high = (found[f"{over}: gain, {end} {ends}"]["value"] for end in ENDS)
                    cells.append(f"{low:+.1f} to {high:+.1f}")
            else:
                cells += ["", "", ""]
            lines.append(f"| {label} | {' | '.join(cells)} |")
        if len(lines) > 2:
            parts.append("\n".join(lines))
    note = "Mean ± deviation over five seeds (default head: three); gain over labels alone, in the "
    note += "last metric: relative, and in points with 95 % intervals. "
    note += source(found, "distillation")
    return "\n\n".join([*parts, note]) + "\n"


SALADS = (
    *("teacher, history true", "teacher, history 25% wrong", "teacher, history 50% wrong"),
    *("HMM", "teacher, history of runs", "teacher, history guessed"),
    *(
        f"{family}: {name}"
        for family in ("window", "memory")
        for name in (
            *("labels alone", "smoothing", "paper", "ours", "shuffled"),
            *("labels alone, fused", "ours, fused"),
        )
    ),
)


def salads() -> str:
    """Real scores of 50 Salads: who says what comes next, and what is gained over labels alone."""
    found = records("salads")
    names = ("top-1", "top-5", "class-mean top-1")
    lines = [f"| 50 Salads, percent | runs | {' | '.join(names)} |", "|---|---|---|---|---|"]
    for row in SALADS:
        cells = [found[f"{row}: {name}"] for name in names]
        lines.append(f"| {row} | {cells[0]['n']} | {' | '.join(map(value, cells))} |")
    lines += ["", "| top-1, points | gain | relative | by video | class-mean top-1 |"]
    lines.append("|---|---|---|---|---|")
    end = ", top-1: gain"
    for pair in (name.removesuffix(end) for name in found if name.endswith(end)):
        low, high = (found[f"{pair}{end}, {which} by video"]["value"] for which in ENDS)
        relative = found[f"{pair}, top-1: relative gain"]["value"]
        mean = found[f"{pair}, class-mean top-1: gain"]["value"]
        lines.append(
            f"| {pair} | {found[f'{pair}{end}']['value']:+.1f} | {relative:+.1f} % | "
            f"{low:+.1f} to {high:+.1f} | {mean:+.1f} |"
        )
    count = found["segments"]["value"]
    note = (
        f"{count:.0f} segments of all five folds together; students: mean ± deviation over seeds; "
        "by video: 95 % intervals. "
    )
    return "\n".join([*lines, "", note + source(found, "salads")]) + "\n"


def ablation() -> str:
    """What makes a language-model teacher good."""
    found = records("ablation")
    names = ("top-1", "top-5", "many-shot recall@5")
    lines = [f"| one thing changed | runs | {' | '.join(names)} |", "|---|---|---|---|---|"]
    rows = dict.fromkeys(figure.rpartition(": ")[0] for figure in found)
    for row in rows:
        cells = [found[f"{row}: {name}"] for name in names]
        shown = " | ".join(map(value, cells))
        lines.append(f"| {row} | {cells[0]['n']} | {shown} |")
    return "\n".join([*lines, "", source(found, "ablation")]) + "\n"


def cross_fitting() -> str:
    """In-sample against cross-fitted targets."""
    found = records("cross_fitting")
    names = {"top-1": "top1", "top-5": "top5", "class-mean recall@5": "recall@5"}
    lines = [f"| soft targets | {' | '.join(names)} |", "|---|---|---|---|"]
    targets = [f"{kind}-{way}" for kind in KINDS[:2] for way in ("in-sample", "cross-fitted")]
    for target in ("plain", *targets):
        label = "none" if target == "plain" else target.replace("-", ", ", 1)
        cells = (value(found[f"action/{metric}, {target}"]) for metric in names.values())
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(found, "cross_fitting")]) + "\n"


CHECKED = "packing EK55: rate of a {} process over one that compares nothing"


TOKENS = "tokens: "
"""What figures of `reads` begin with that are of tokens."""


def rates(found: Records, prefix: str, labels: Mapping[str, str]) -> list[str]:
    """Windows per second of those of some forms that were measured, and antcache's over them.

    Other Pythons' forms follow those that are named, with the chunks that suit each best.
    """
    own = f"{prefix}antcache map"
    others = {
        name.removeprefix(prefix): record["value"]
        for name, record in found.items()
        if re.match(rf"{prefix}(zarr|Lance) \d", name)
    }
    best: dict[str, str] = {}
    for name in sorted(others, key=others.__getitem__):
        form = re.sub(r", \d+-row chunks", "", name)
        best[form] = name
    named = {**labels, **{best[form]: form.replace("zarr 3", "zarr-python 3") for form in best}}
    lines = []
    for name, label in named.items():
        rate = found[prefix + name]["value"]
        ratio = found.get(f"{own} over {name}")
        times = found[own]["value"] / rate if ratio is None else ratio["value"]
        lines.append(f"| {label} | {rate:,.0f} | {times:.{1 if times < 20 else 0}f} x |")
    return lines


CHUNKS = "of zarr-python 3.3 the better of two chunk sizes; `fused` and `zarrs` are its pipelines."


def reads() -> str:
    """Windows per second, and what packing a dataset takes."""
    found, checks = records("reads"), records("checks")
    lines = ["| windows of 10 rows, one thread | windows/s | antcache map is |", "|---|---|---|"]
    lines += rates(
        found,
        "",
        {
            "antcache pack": "antcache, packed",
            "raw memory map": "raw numpy memory map",
            "antcache map": "antcache, from the memory map",
            "LMDB, 10 gets": "LMDB, 10 gets",
            "h5py": "h5py",
            "LMDB, 150 gets": "LMDB, 150 gets (what AVT does)",
            "zarr": "zarr-python",
        },
    )
    speed, memory = found["EK55: packing"], found["EK55: memory over the pack, map, peak"]
    lines += [
        "",
        f"Random windows of 20 videos of 3,000 x 1,024 float16, page cache warm; {CHUNKS} "
        f"The 28,472 windows of EPIC-KITCHENS-55 are packed at "
        f"{speed['value']:.1f} GB/s of output with {memory['value']:.0f} MB beside the pack. "
        f"{source(found, 'reads')}",
        "",
        f"Of the rate of a process that compares nothing, one that is the first to read these "
        f"files packs at {checks[CHECKED.format('first')]['value']:.2f}, and one that finds them "
        f"as they were compared at {checks[CHECKED.format('later')]['value']:.2f}. "
        f"{source(checks, 'checks')}",
    ]
    return "\n".join(lines) + "\n"


def token_reads() -> str:
    """The same of rows of tokens."""
    found = records("reads")
    lines = ["| one row of 256 tokens, int8 | rows/s | antcache map is |", "|---|---|---|"]
    lines += rates(
        found,
        TOKENS,
        {
            "raw memory map": "raw numpy memory map",
            "antcache map": "antcache, from the memory map",
            "h5py": "h5py",
            "LMDB, 1 get": "LMDB, 1 get",
            "zarr": "zarr-python",
        },
    )
    note = f"Random clips of 256 x 1,024 int8 tokens, one thread, page cache warm; {CHUNKS} "
    return "\n".join([*lines, "", note + source(found, "reads")]) + "\n"


def safety() -> str:
    """Kills and flipped bits."""
    kills, flips = records("durability"), records("bit_rot")
    lines = ["| what was done to a store | Zarr | HDF5 |", "|---|---|---|"]

    def row(label: str, cell: Callable[[str], str]) -> None:
        lines.append(f"| {label} | {cell('zarr')} | {cell('hdf5')} |")

    for processes in ("1 process", "3 processes"):
        row(
            f"extraction by {processes} killed (SIGKILL): videos listed then, of them damaged",
            lambda kind, p=processes: (  # type: ignore[misc]
                f"{kills[f'kills: {kind}, {p}']['value']:.0f} times: "
                f"{kills[f'videos listed after a kill, each verified: {kind}, {p}']['value']:.0f}, "
                f"{kills[f'violations: {kind}, {p}']['value']:.0f}"
            ),
        )
    row(
        "single bits flipped, one at a time: found by `verify`, named wrongly",
        lambda kind: (
            f"{flips[f'{kind}: flipped bits found']['value']:,.0f}, "
            f"{flips[f'{kind}: named wrongly']['value']:.0f}"
        ),
    )
    lines += ["", f"{source(kills, 'durability')} {source(flips, 'bit_rot')}"]
    return "\n".join(lines) + "\n"


KILLED = {
    "`annotations import`": ("import: zarr", "import: hdf5"),
    "`annotations import --overwrite`": ("import --overwrite: zarr", "import --overwrite: hdf5"),
    "`teacher train`": ("teacher train: count", "teacher train: sequence"),
    "`student train`": ("student train",),
    "`student sweep`": ("student sweep",),
}


def goes_on() -> str:
    """Commands that were killed, and went on."""
    found = records("durability")
    head = "| command | killed (SIGKILL) | of these while publishing | left something invalid | "
    lines = [head + "went on, and left what an undisturbed run leaves |", "|---|---|---|---|---|"]
    names = ("kills", "processes killed while publishing", "violations", "re-runs that finished")
    for command, cases in KILLED.items():
        if all(f"kills: {case}" in found for case in cases):
            sums = [sum(found[f"{name}: {case}"]["value"] for case in cases) for name in names]
            lines.append(f"| {command} | {' | '.join(f'{value:.0f}' for value in sums)} |")
    return "\n".join([*lines, "", source(found, "durability")]) + "\n"


def kernel() -> str:
    """The CPU's part of the kernel benchmark."""
    found = records("kernel", device="CPU")
    shape = "on the CPU, 4096 x 2513"
    faster = found[f"times faster than PyTorch calls {shape}"]
    compiled = found[f"times faster than torch.compile {shape}"]
    memory = found[f"extra memory over that of the logits {shape}"]
    return (
        "On a CPU, 4,096 x 2,513 in float32, forward and gradient, timed in turns: "
        f"{faster['value']:.1f} times as fast as the faster of two compositions of PyTorch calls, "
        f"{compiled['value']:.1f} times as fast as one of them under `torch.compile`, with "
        f"{memory['value']:.2f} times the logits' memory beside them, the gradient included. "
        f"{source(found, 'kernel')}\n"
    )


CEILING = re.compile(r"ceiling of the share of copy bandwidth(.*), (H100|H200), (.*)")


def kernel_compile() -> str:
    """What the machine code of the kernels allows at best, without a GPU."""
    found = records("kernel_compile")
    shares: dict[str, dict[str, float]] = {}
    for figure, record in found.items():
        if match := CEILING.fullmatch(figure):
            shares.setdefault(match[3] + match[1], {})[match[2]] = record["value"]
    lines = ["| at best, share of copy bandwidth | H100 | H200 |", "|---|---|---|"]
    lines += [f"| {what} | {of['H100']:.0%} | {of['H200']:.0%} |" for what, of in shares.items()]
    return "\n".join([*lines, "", source(found, "kernel_compile")]) + "\n"


def linear() -> str:
    """The loss from hidden states beside the classifier and the loss one after another."""
    found = records("linear", device="CPU")
    lines = ["| forward and backward, a share or a multiple | memory | speed |", "|---|---|---|"]
    for form in ("dense", "top-50 with tail"):
        for other, label in (("composition", "`distillation_loss`"), ("eager", "eager PyTorch")):
            where = f"{other}, {form}, 1024 x 256 x 131072"
            memory = found[f"memory over that of {where}"]["value"]
            times = found[f"times as fast as {where}"]["value"]
            lines.append(
                f"| {form} teacher, against `F.linear` and {label} | {memory:.2f} | {times:.2f} |"
            )
    lines += ["", "1,024 rows of 256 features, 131,072 classes, float32, one thread; memory beside"]
    lines[-1] += f" the inputs, the gradients included. {source(found, 'linear')}"
    return "\n".join(lines) + "\n"


def install() -> str:
    """What each distribution brings beside PyTorch and Triton."""
    found = records("install")
    lines = ["| beside PyTorch and Triton | packages | MB | seconds |", "|---|---|---|---|"]
    for name in ("antcache-kernels", "antcache"):
        packages, size, seconds = (
            found[f"{what}, {name}"]["value"] for what in ("packages", "megabytes", "seconds")
        )
        lines.append(f"| `{name}` | {packages:.0f} | {size:.1f} | {seconds:.1f} |")
    note = "Itself included; by pip, which had kept what it had downloaded. "
    return "\n".join([*lines, "", note + source(found, "install")]) + "\n"


SIDES = {
    "antcache, bfloat16": "antcache, bfloat16 (its default here)",
    "antcache, float32": "antcache, float32",
    "10 gets, 0 workers, float32": "usual loop, 10 gets per window",
    "10 gets, 2 workers, float32": "the same, 2 workers",
    "10 gets, 0 workers, bfloat16": "the same, no worker, bfloat16",
    "150 gets, 0 workers, float32": "usual loop, 150 gets per window (what AVT does)",
    "150 gets, 2 workers, float32": "the same, 2 workers",
    "150 gets, 0 workers, bfloat16": "the same, no worker, bfloat16",
}


def training() -> str:
    """Samples per second of training on a CPU beside a loop of common parts."""
    found = records("training", device="CPU")
    antcache = "antcache, bfloat16"
    sizes = [k.removesuffix(f": {antcache}") for k in found if k.endswith(f": {antcache}")]
    lines = [f"| samples/s on one thread of a CPU | {' | '.join(sizes)} |"]
    lines.append("|---|" + "---|" * len(sizes))
    for side, label in SIDES.items():
        cells = []
        for size in sizes:
            cell = f"{found[f'{size}: {side}']['value']:,.0f}"
            if side != antcache:
                cell += f" ({found[f'{size}: {antcache} over {side}']['value']:.1f} x)"
            cells.append(cell)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for part in ("data", "loss"):
        shares = (found[f"{size}: {part} of antcache's step"]["value"] for size in sizes)
        cells = [f"{share:.1f} %" for share in shares]
        lines.append(f"| {part} of antcache's step | {' | '.join(cells)} |")
    memory = found["memory: peak over the sum of the others"]["value"]
    note = (
        "In brackets: how many times as fast antcache is. Peak memory over pack, parameters, "
        f"gradients, optimizer and one step's activations: {memory:.2f}. "
    )
    return "\n".join([*lines, "", note + source(found, "training")]) + "\n"


TOKEN_FORMS = ("whole, float16", "whole, int8", "pooled, float16", "pooled, int8")


def tokens() -> str:
    """What a cache of tokens takes, and what it saves, on a CPU and where measured on a GPU."""
    found, gathered = records("tokens", device="CPU"), records("reads", device="CPU")

    def of(figure: str) -> float:
        return float(found[figure]["value"])

    lines = ["| a clip of ViT-L, 256 pixels, 32 frames | MB | all of EK100, GB |", "|---|---|---|"]
    for form in TOKEN_FORMS:
        size, every = (of(f"disk: {what}, {form}") for what in ("a clip", "EK100"))
        lines.append(f"| {form} | {size:.2f} | {every:,.0f} |")
    raw = gathered[f"{TOKENS}antcache map over raw memory map"]["value"]
    gathering = (
        f"Pooled int8 clips are gathered at {of('reading: memory map, as stored, GB/s'):.1f} GB/s "
        f"on one thread, {raw:.2f} of the rate of a raw memory map, and become "
        f"{of('reading: memory map, batches, clips/s'):,.0f} float32 clips a second in batches. "
    )
    cache, encoder = "probe: cache, packed", "encoder for every sample"
    training = (
        f"On one thread, with an encoder an eighth as wide, a probe trains on {of(cache):,.0f} "
        f"samples a second from the cache, and on {of(f'probe: {encoder}'):,.1f} where the encoder "
        f"runs for each ({of(f'{cache} over {encoder}'):.0f} x); on "
        f"{of(f'probe: {encoder}, whole tokens'):,.1f} where the probe besides attends to whole "
        f"tokens, as published ({of(f'{cache} over {encoder}, whole tokens'):.0f} x)."
    )
    errors = (
        f"int8 moves the logits of a probe by {of('logits: error of int8 over whole'):.2f} % of "
        "their deviation between clips. One that has learned from whole tokens is off by "
        f"{of('logits: error of pooled over whole'):.0f} % on pooled ones; one that learns from "
        "these is not."
    )
    lines += ["", gathering + source(found, "tokens"), "", training, "", errors]
    on_gpu = {name: r for name, r in records("tokens").items() if "CPU" not in r["device"]}
    if on_gpu:
        lines += ["", "| on a GPU, random weights | |", "|---|---|"]
        lines += [f"| {name} | {r['value']:,.2f} {r['unit']} |" for name, r in on_gpu.items()]
        lines += ["", source(on_gpu, "tokens")]
    return "\n".join(lines) + "\n"


STEPS = {
    "labels": "labels",
    "figures": "figures of a run on {} segments, 1,000 resamples",
    "predictions": "a file of predictions for {} test segments",
    "submission": "a submission of these, written and checked by its schema",
}


def steps() -> str:
    """What the steps of EPIC-KITCHENS-100 take for which nobody needs its videos."""
    found = records("steps", device="CPU")

    def of(figure: str) -> str:
        record = found.get(figure)
        return "" if record is None else f"{record['value']:,.0f} {record['unit']}"

    lines = ["| step | disk | time |", "|---|---|---|"]
    for name, title in STEPS.items():
        (count, *_) = (r["n"] for k, r in found.items() if k.startswith(f"{name}: "))
        lines.append(
            f"| {title.format(f'{count:,}')} | {of(f'{name}: disk')} | {of(f'{name}: time')} |"
        )
    note = "Real labels, made-up scores; one call of each. " + source(found, "steps")
    return "\n".join([*lines, "", note]) + "\n"


def latency() -> str:
    """Milliseconds of one prediction by each head on a CPU."""
    found = records("latency", device="CPU")
    lines = ["| head | median | 95th percentile |", "|---|---|---|"]
    for head in (n for n in found if "percentile" not in n and not n.startswith("live: ")):
        median, late = found[head], found[f"{head}, 95th percentile"]
        lines.append(f"| {head} | {value(median)} | {value(late)} |")
    return "\n".join([*lines, "", source(found, "latency")]) + "\n"


def live() -> str:
    """Milliseconds from a frame to its answer on a CPU."""
    found = {n: r for n, r in records("latency", device="CPU").items() if n.startswith("live: ")}
    if not found:
        return "Not measured yet.\n"
    lines = ["| backbone, head | median | 95th percentile | rows dropped |", "|---|---|---|---|"]
    for name in (n for n in found if f"{n}, rows dropped" in found):
        figures = [found[name], found[f"{name}, 95th percentile"], found[f"{name}, rows dropped"]]
        median, late, dropped = map(value, figures)
        lines.append(f"| {name.removeprefix('live: ')} | {median} ms | {late} ms | {dropped} % |")
    return "\n".join([*lines, "", source(found, "latency")]) + "\n"


def decoding() -> str:
    """How much less is decoded, and what that saves."""
    found = records("decoding", device="CPU")
    rates = ("4 a second", "1 in 5 s")
    lines = [
        "| film, pictures needed | frames not decoded | CPU time of decoding all, over this |",
        "|---|---|---|",
    ]
    for form in dict.fromkeys(name.partition(", ")[0] for name in found):
        for rate in rates:
            left_out = found[f"{form}, {rate}: frames not decoded"]["value"]
            ratio = value(found[f"{form}, {rate}: CPU time of all over needed"], 2)
            lines.append(f"| {form}, {rate} | {left_out:.0f} % | {ratio} |")
    return "\n".join([*lines, "", source(found, "decoding")]) + "\n"


def scale() -> str:
    """Seconds of each call on a store of many videos."""
    found = records("scale", device="CPU")
    lines = [
        "| a stream of 20,000 videos | list | plan an extraction | `info` | memory of all of it |",
        "|---|---|---|---|---|",
    ]
    for kind in ("zarr", "hdf5", "S3"):
        calls = " | ".join(
            f"{found[f'{kind}: {c}']['value']:.1f} s" for c in ("list", "plan", "info")
        )
        most = max(
            r["value"] for name, r in found.items() if name.startswith(kind) and "mem" in name
        )
        lines.append(f"| {kind} | {calls} | {most:.0f} MB |")
    note = (
        "S3: moto on the same cores, which takes half a second for a list of a thousand objects. "
    )
    return "\n".join([*lines, "", note + source(found, "scale")]) + "\n"


def browse() -> str:
    """Seconds of what the page over a large store asks for, and the memory of it all."""
    found = records("browse", device="CPU")
    lines = ["| step | time |", "|---|---|"]
    lines += [
        f"| {name} | {value(record, 2)} s |"
        for name, record in found.items()
        if record["unit"] == "s"
    ]
    first, every = (found[f"{name}, peak memory"]["value"] for name in ("first page", "everything"))
    note = f"Memory: {first:.0f} MB at the first page, {every:.0f} MB after everything. "
    return "\n".join([*lines, "", note + source(found, "browse")]) + "\n"


PAGES = (
    "README.md",
    "docs/browse.md",
    "docs/store.md",
    "docs/student.md",
    "docs/kernel.md",
    "docs/teachers.md",
    "docs/distillation.md",
    "docs/real.md",
    "docs/tokens.md",
    "docs/extract.md",
    "docs/watch.md",
)
TABLES = {
    "demo": demo,
    "teachers": teachers,
    "egtea": egtea,
    "ablation": ablation,
    "cross_fitting": cross_fitting,
    "distillation": distillation,
    "salads": salads,
    "training": training,
    "tokens": tokens,
    "token_reads": token_reads,
    "steps": steps,
    "latency": latency,
    "live": live,
    "decoding": decoding,
    "scale": scale,
    "browse": browse,
    "reads": reads,
    "safety": safety,
    "goes_on": goes_on,
    "kernel": kernel,
    "kernel_compile": kernel_compile,
    "linear": linear,
    "install": install,
}


def main() -> None:
    """Rewrite or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    for page in PAGES:
        path = ROOT / page
        old = path.read_text("utf-8")
        new = BLOCK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], old)
        if not check:
            path.write_text(new, "utf-8")
        elif new != old:
            sys.exit(f"{page}: tables differ from the results; run benchmarks/tables.py")


if __name__ == "__main__":
    main()
