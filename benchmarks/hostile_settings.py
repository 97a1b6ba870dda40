"""Plans and settings of runs, teachers and models that ask for the impossible.

Promise: see `cases.py`.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

from cases import InputCase
from hostile_predictions import ShellCommand
from hostile_tensors import PREDICT, SEQUENCE, TEACHER
from hostile_writers import DEEP, EVIL, NINES, Write, case, json_with, pipe, text

PLAN = (
    "student sweep labels.zarr files/plan.yaml --runs r",
    "student sweep s.zarr files/plan.yaml --runs r",
)
EXTRACT = "extract videos/v.mp4 new.zarr --backbone vit --device cpu --fps 2"


def _setting(**values: Any) -> Write:
    return json_with("run/config.json", lambda content: content["student"].update(values))


def _teacher(name: str, **values: Any) -> Write:
    return json_with(
        f"s.zarr.teachers/{name}/teacher.json", lambda content: content["config"].update(values)
    )


def _grid() -> str:
    names = ("weight", "temperature", "lr", "ema", "label_smoothing")
    values = ", ".join(f"{i / 200}" for i in range(1, 200))
    return "grid:\n" + "".join(f"  {name}: [{values}]\n" for name in names)


def _laughs(merged: bool) -> str:
    """Ten of ten of ten ...: a billion values by names for values."""
    lines = ["a: &a {x: 1}" if merged else "a: &a [1, 2]"]
    for before, name in zip("abcdefghi", "bcdefghij", strict=True):
        ten = ", ".join([f"*{before}"] * 10)
        lines.append(f"{name}: &{name} {{<<: [{ten}]}}" if merged else f"{name}: &{name} [{ten}]")
    return "\n".join(lines)


def cases() -> list[InputCase]:
    """The cases of plans and settings."""
    metrics = '{"epoch": 1e308, "loss": 1e308}\n{"epoch": 1, "loss": -1e308}\n'
    report = "report s.zarr run run2 --over all --bootstrap 5 -o r.html"
    recipes = "teacher corpus files/recipes.json -o corpus --taxonomy-from s.zarr"
    plans = {
        "5 lists of 199": _grid(),
        "100,000 brackets": "[" * DEEP,
        "a number of 5,000 digits": f"seeds: [{NINES}]\nsettings: {{a: {{}}}}",
        "a number of 5,000 hexadecimal digits": f"seeds: [0x{'f' * 5000}]\nsettings: {{a: {{}}}}",
        "a billion values by references": _laughs(merged=False),
        "a billion values by merging": _laughs(merged=True),
        "a value in itself": "settings: &a {b: *a}",
        "a tag that is run": "a: !!python/object/apply:os.system ['rm victim/secret.txt']",
        "a tag on nothing": "seeds: [!!float '']\nsettings: {a: {}}",
        "a name with escapes": f"settings: {{{json.dumps(EVIL)}: {{lr: {json.dumps(EVIL)}}}}}",
        "a layer for every star": "settings: {a: {layers: 1000000000}}",
        "2 MB": "# " + "x" * (2 << 20) + "\nsettings: {a: {}}",
    }
    return [
        *(
            case(f"plan: {name}", text("files/plan.yaml", plan), *PLAN)
            for name, plan in plans.items()
        ),
        case("plan: a named pipe", pipe("files/plan.yaml"), *PLAN),
        case("run: settings nested without end", text("run/config.json", '{"a":' * DEEP), *PREDICT),
        case(
            "run: a number of 5,000 digits",
            text("run/config.json", f'{{"student": {{"seed": {NINES}}}}}'),
            *PREDICT,
        ),
        case("run: a width of a billion", _setting(width=1_000_000_000), *PREDICT),
        case("run: a width of 65,536", _setting(width=65_536), *PREDICT),
        case("run: a billion layers", _setting(layers=1_000_000_000), *PREDICT),
        case("run: settings of other types", _setting(width="8", layers=[1], lr={}), *PREDICT),
        case(
            "run: a window of a billion frames",
            json_with("run/config.json", lambda c: c["protocol"].update(num_frames=10**9)),
            *PREDICT,
        ),
        case(
            "run: a gap of 1e308 s",
            json_with("run/config.json", lambda c: c["protocol"].update(gap_s=1e308)),
            *PREDICT,
        ),
        case(
            "run: a teacher's feature a billion wide",
            json_with("run/config.json", lambda c: c["shape"].update(teacher_dims=[10**9])),
            *PREDICT,
        ),
        case("run: a named pipe", pipe("run/config.json"), *PREDICT),
        case("run: metrics that can't be drawn", text("run/metrics.jsonl", metrics), report),
        case("run: metrics nested without end", text("run/metrics.jsonl", "[" * DEEP), report),
        case("run: metrics in a named pipe", pipe("run/metrics.jsonl"), report),
        case("teacher: a history of 10^12 actions", _teacher("count", length=10**12), *TEACHER),
        case("teacher: a width of a million", _teacher("seq", width=1_000_000), *SEQUENCE),
        case("teacher: a billion layers", _teacher("seq", layers=10**9), *SEQUENCE),
        case(
            "teacher: settings of other types",
            _teacher("count", order="3", smoothing=[EVIL]),
            *TEACHER,
        ),
        case(
            "teacher: settings nested without end",
            text("s.zarr.teachers/count/teacher.json", "[" * DEEP),
            *TEACHER,
        ),
        case("recipes: nested without end", text("files/recipes.json", "[" + "[" * DEEP), recipes),
        case(
            "recipes: an id that is a tower",
            text("files/recipes.json", '[{"id": ' + "[" * 500 + "]" * 500 + "}]"),
            recipes,
        ),
        case(
            "recipes: a number of 5,000 digits",
            text("files/recipes.json", f'[{{"id": {NINES}}}]'),
            recipes,
        ),
        case("vision model: weights elsewhere", _elsewhere, EXTRACT),
        case(
            "vision model: a width of a million",
            json_with("vit/config.json", lambda c: c.update(hidden_size=10**6)),
            EXTRACT,
        ),
        case(
            "vision model: a billion layers",
            json_with("vit/config.json", lambda c: c.update(num_hidden_layers=10**9)),
            EXTRACT,
        ),
        case(
            "vision model: 100,000 layers",
            json_with("vit/config.json", lambda c: c.update(num_hidden_layers=10**5)),
            EXTRACT,
        ),
        case("vision model: code of its own", _own_code, EXTRACT),
        case("vision model: weights that are a pickle", _pickled_weights, EXTRACT),
        case(
            "vision model: pictures of 10^6 pixels",
            json_with("vit/preprocessor_config.json", lambda c: c.update(size=10**6)),
            EXTRACT,
        ),
        case(
            "failures: nested without end",
            text("s.zarr.failures.jsonl", "[" * DEEP),
            f"{EXTRACT.replace('new', 's')} --stream x --dry-run",
        ),
        case(
            "failures: a named pipe",
            pipe("s.zarr.failures.jsonl"),
            f"{EXTRACT.replace('new', 's')} --stream x --dry-run",
        ),
    ]


def _elsewhere(folder: Path) -> None:
    """An index that says that the weights lie in somebody else's folder; a file of them is here."""
    (folder / "vit/model.safetensors").rename(folder / "victim/model.safetensors")
    shutil.copy(
        folder / "victim/model.safetensors", folder / "vit/model-00001-of-00001.safetensors"
    )
    data = (folder / "victim/model.safetensors").read_bytes()
    names = set(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])) - {"__metadata__"}
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../victim/model.safetensors")}
    (folder / "vit/model.safetensors.index.json").write_text(json.dumps(index))


def _own_code(folder: Path) -> None:
    code = "open('victim/secret.txt', 'w').write('run')\n"
    (folder / "vit/modeling_evil.py").write_text(code)
    json_with(
        "vit/config.json",
        lambda c: c.update(
            model_type="evil",
            auto_map={"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"},
        ),
    )(folder)


def _pickled_weights(folder: Path) -> None:
    (folder / "vit/model.safetensors").unlink()
    (folder / "vit/pytorch_model.bin").write_bytes(pickle.dumps({"a": ShellCommand()}))
