"""Tables of what teachers know, and of what it costs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from table_records import records, source, value


def options(settings: Mapping[str, Any]) -> str:
    """Settings of a teacher as the options of `antcache teacher train` that make them."""
    words = (f"--set {name}={json.dumps(each)}" for name, each in settings.items())
    return " ".join(words)


def teacher_label(kind: str, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """A kind of teacher and its options, where those are short."""
    short = kind in settings and kind != "language"
    return f"{kind} `{options(settings[kind])}`" if short else kind


def without_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings but for the language model, which is a folder."""
    return {name: each for name, each in settings.items() if name != "model"}


KINDS = ("count", "sequence", "language", "ensemble")


PUBLISHED = {"complete": ("19.1", "36.6", "22.4")}


def teachers() -> str:
    """Teachers on the real EPIC-KITCHENS-55 labels."""
    from teachers import LANGUAGE, MEMBERS

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
                lines.append(f"| {teacher_label(kind, MEMBERS)} | {mode} | {' | '.join(cells)} |")
        if mode in PUBLISHED:
            cells = " | ".join(PUBLISHED[mode])
            lines.append(f"| best published of each column | {mode} | {cells} |")
    lines += ["", "All 4,979 validation segments, the official many-shot list; all but the count"]
    lines[-1] += " teacher on three seeds. Rows with `--set` are trained with that option of"
    lines[-1] += " `antcache teacher train`; language: MiniLM, adapted to 393 recipes, with"
    lines[-1] += f" `{options(without_model(LANGUAGE))}`; ensemble: the mean of the other three."
    lines[-1] += f" {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


def egtea() -> str:
    """Teachers on the real EGTEA Gaze+ labels."""
    from teachers import MEMBERS

    found = records("teachers")
    names = ("top-1", "top-5", "class-mean top-1", "class-mean recall@5")
    lines = [f"| teacher | history | {' | '.join(names)} |", "|---|---|---|---|---|---|"]
    for mode in ("gappy", "complete", "observed"):
        for kind in (*KINDS, "published settings"):
            if f"EGTEA: {kind}, {mode} history: top-1" in found:
                cells = (value(found[f"EGTEA: {kind}, {mode} history: {name}"]) for name in names)
                lines.append(f"| {teacher_label(kind, MEMBERS)} | {mode} | {' | '.join(cells)} |")
    lines += ["", "Split 1, 2,022 validation segments, tau_a 0.5 s; options as in the first"]
    lines[-1] += " table."
    lines[-1] += f" {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


def ek100_teachers() -> str:
    """Teachers on the real EPIC-KITCHENS-100 labels."""
    from teachers import FEWER, LARGE

    found = records("teachers")
    names = ("top-1", "top-5", "recall@5", "tail recall@5", "unseen recall@5")
    shown = ("top-1", "top-5", "class-mean recall@5", "of tail actions", "of unseen participants")
    lines = [f"| teacher | history | {' | '.join(shown)} |", "|---|---|---|---|---|---|---|"]
    for mode in ("complete", "observed"):
        for kind in KINDS:
            name = f"EK100: {kind}, {mode} history"
            if f"{name}: top-1" in found:
                told = teacher_label(kind, FEWER)
                cells = (value(found[f"{name}: {metric}"]) for metric in names)
                lines.append(f"| {told} | {mode} | {' | '.join(cells)} |")
        for kind in (*KINDS, *LARGE):
            name = f"EK100: {kind}, balanced, {mode} history"
            if f"{name}: top-1" in found:
                balance = found[f"{name}: balance"]["value"]
                cells = (value(found[f"{name}: {metric}"]) for metric in names)
                lines.append(f"| {kind}, balance {balance:g} | {mode} | {' | '.join(cells)} |")
    lines += ["", "All 9,668 validation segments, one training of each kind; ensemble: their mean;"]
    lines[-1] += " geometric ensemble: the geometric mean of the count teacher and of three"
    lines[-1] += " trainings of the sequence teacher; larger ensemble: the mean of these and the"
    lines[-1] += " language teacher, largest: of two trainings of it. Language: the model of the"
    lines[-1] += " first table, with"
    lines[-1] += f" `{options(without_model(FEWER['language']))}`. Balance: the exponent of the"
    lines[-1] += " class prior, the best for recall@5 on a fifth of the training videos that was"
    lines[-1] += " held out, with complete histories."
    lines[-1] += f" {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


def single_label_teachers() -> str:
    """Teachers on labels without verb and noun: Breakfast and CaptainCook4D."""
    found = records("teachers")
    names = ("top-1", "top-5", "class-mean top-1")
    lines = [f"| labels | teacher | history | {' | '.join(names)} |", "|---|---|---|---|---|---|"]
    for dataset in ("Breakfast", "CaptainCook4D"):
        for mode in ("complete", "observed"):
            for kind in KINDS:
                name = f"{dataset}: {kind}, {mode} history"
                if f"{name}: top-1" in found:
                    cells = (value(found[f"{name}: {metric}"]) for metric in names)
                    told = f"{kind} `--set times=true`" if kind != "ensemble" else kind
                    lines.append(f"| {dataset} | {told} | {mode} | {' | '.join(cells)} |")
    lines += [
        "",
        "Breakfast: mean and deviation over its four splits, one training on each; CaptainCook4D:",
    ]
    lines[-1] += " validation and test recordings, three seeds of the sequence teacher. tau_a 1 s;"
    lines[-1] += f" background is no segment. {source(found, 'teachers')}"
    return "\n".join(lines) + "\n"


def transfer() -> str:
    """Whether the text of one kitchen helps a teacher of another."""
    from transfer import METRICS, SHARES, TARGETS

    found = records("transfer")
    lines = [
        f"| labels | trained on | scripts | {' | '.join(METRICS)} |",
        "|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        for share in SHARES:
            for text in ("without", "with"):
                name = f"{target}: {share}, {text} scripts"
                if f"{name}: top-1" in found:
                    cells = (value(found[f"{name}: {metric}"]) for metric in METRICS)
                    lines.append(f"| {target} | {share} | {text} | {' | '.join(cells)} |")
    named = ", ".join(
        f"{target} {found[f'{target}: mapped']['value']:.0f} % and "
        f"{found[f'{target}: covered']['value']:.0f} %"
        for target in TARGETS
    )
    lines += [
        "",
        "Count teacher without times, complete history; 50 Salads: mean and deviation over",
    ]
    lines[-1] += (
        " its five splits. Share of the scripts' actions that has a name there, and share of"
    )
    lines[-1] += f" the training segments whose action is in a script: {named}."
    lines[-1] += f" {source(found, 'transfer')}"
    return "\n".join(lines) + "\n"


def counting() -> str:
    """How long the count teacher takes."""
    found = records("counting")
    lines = [
        "| labels | seconds | of which a core worked | all actions over the target alone |",
        "|---|---|---|---|",
    ]
    for dataset in ("EPIC-KITCHENS-55", "EPIC-KITCHENS-100"):
        names = ("seconds", "processor seconds", "all actions over the target alone")
        cells = " | ".join(value(found[f"{dataset}: {name}"]) for name in names)
        lines.append(f"| {dataset} | {cells} |")
    load = found["EPIC-KITCHENS-100: processes that wanted a core"]["value"]
    lines += ["", f"With times; {load:.0f} processes wanted a core meanwhile."]
    lines[-1] += f" {source(found, 'counting')}"
    return "\n".join(lines) + "\n"


def prompted() -> str:
    """What a text costs a decoder."""
    found = records("prompted", device="CPU")
    lines = ["| decoder | seconds of a core for a text |", "|---|---|"]
    texts = [name.removesuffix(": a text") for name in found if name.endswith(": a text")]
    lines += [f"| {name} | {value(found[f'{name}: a text'], 2)} |" for name in texts]
    anew = next(r["value"] for name, r in found.items() if "anew" in name)
    lines += ["", "All 2,513 names of EPIC-KITCHENS-55, one thread, random weights; with the past"]
    lines[-1] += f" anew for each name it would be {anew:.0f} times as much."
    lines[-1] += f" {source(found, 'prompted')}"
    return "\n".join(lines) + "\n"


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


def long_term() -> str:
    """What teachers and a student foresee on 50 Salads and Breakfast."""
    found = records("long_term")
    shares = [what.split("%, the next ") for what in found if ", after" in what]
    observed = dict.fromkeys(seen for seen, _ in shares)
    ahead = dict.fromkeys(part for _, part in shares)
    lines = [f"| labels | | observed | {' | '.join(f'next {part}' for part in ahead)} |"]
    lines += ["|---" * (len(ahead) + 3) + "|"]
    for seen in sorted(observed, key=lambda seen: seen.startswith("Breakfast")):
        cells = (value(found[f"{seen}%, the next {part}"]) for part in ahead)
        who, _, share = seen.partition(", after ")
        dataset, _, who = who.rpartition(": ")
        lines.append(f"| {dataset or '50 Salads'} | {who} | {share} % | {' | '.join(cells)} |")
    edits = (f"{what} {value(found[what], 2)}" for what in found if ", ED@" in what)
    said = f"Of the next actions on 50 Salads: {'; '.join(edits)}. Means over the splits. "
    return "\n".join([*lines, "", said + source(found, "long_term")]) + "\n"
