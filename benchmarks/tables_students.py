"""Tables of students: what they gain from teachers, and how fast they learn and answer."""

from __future__ import annotations

from table_records import TOKENS, records, source, value


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
    "further-plain": "labels alone, searched further without it",
    "further-ours": "antcache, the same, by balanced teachers; gain over the line above",
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
    found = records("latency", device="CPU")
    if not any(name.startswith("live: ") for name in found):
        return "Not measured yet.\n"
    lines = ["| backbone, head | median | 95th percentile | rows dropped |", "|---|---|---|---|"]
    for name in (n for n in found if n.startswith("live: ") and f"{n}, rows dropped" in found):
        figures = [found[name], found[f"{name}, 95th percentile"], found[f"{name}, rows dropped"]]
        median, late, dropped = map(value, figures)
        lines.append(f"| {name.removeprefix('live: ')} | {median} ms | {late} ms | {dropped} % |")
    return "\n".join([*lines, "", source(found, "latency")]) + "\n"


def history() -> str:
    """What a listening teacher adds to students."""
    found = records("history")
    parts, seeds = [], []
    for dataset, title, last in (
        ("50salads", "50 Salads", "class-mean top-1"),
        ("epic-kitchens-55", "EPIC-KITCHENS-55, simulated features", "many-shot recall@5"),
    ):
        names = ("top-1", "top-5", last)
        lines = [
            f"| {title}, percent | {' | '.join(names)} | top-1, both over student, by video |",
            "|---|---|---|---|---|",
        ]
        students = dict.fromkeys(
            what.removeprefix(f"{dataset}, ").partition(":")[0]
            for what in found
            if what.startswith(f"{dataset}, ")
        )
        for student in students:
            label = f"{dataset}, {student}"
            rows = [w for w in found if w.startswith(label) and w.endswith(": top-1")]
            for who in (row.split(": ")[1] for row in rows if "recogniser" not in row):
                cells = [value(found[f"{label}: {who}: {name}"]) for name in names]
                gain = f"{label}: both over student, top-1: gain"
                low, high = (f"{gain}, {end} by video" for end in ENDS)
                cells.append(
                    f"{found[gain]['value']:+.1f} ({found[low]['value']:+.1f} to "
                    f"{found[high]['value']:+.1f})"
                    if who == "both"
                    else ""
                )
                lines.append(f"| {student}: {who} | {' | '.join(cells)} |")
        if students:
            parts.append("\n".join(lines))
            n = max(found[w]["n"] for w in found if w.startswith(dataset) and w.endswith("top-1"))
            seeds.append(f"{title.partition(',')[0]}: {n} seed{'s' * (n > 1)}")
    parts.append(f"{'; '.join(seeds)}, mean ± deviation. {source(found, 'history')}")
    return "\n\n".join(parts) + "\n"


def waiting() -> str:
    """What it saves that threads which wait sleep soon."""
    found = records("waiting", device="CPU")
    sizes = dict.fromkeys(figure.partition(", alone")[0] for figure in found if ", alone" in figure)
    lines = [f"| times as fast as with OpenMP's own | {' | '.join(sizes)} |"]
    lines.append("|---" * (len(sizes) + 1) + "|")
    for where in ("alone", "beside a busy process for each core"):
        name = f"{where}: threads that sleep soon over OpenMP's own"
        cells = [f"{found[f'{size}, {name}']['value']:.2f} x" for size in sizes]
        lines.append(f"| {where} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source(found, "waiting")]) + "\n"
