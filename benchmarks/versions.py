"""Do the oldest and the newest versions that `setup.py` allows work?

    python benchmarks/versions.py [--record] [--python NAME ...] [--folder FOLDER]

For each Python (by default those of 3.11 to 3.14 that are here) and for the oldest and the newest
versions that `antcache[all]` allows of what it names itself (as wheels; `gpu` is left out): a
virtual environment, antcache installed from a wheel into it, and the whole method by its commands
on a small generated kitchen: videos rendered, features extracted with a ConvNeXt, teachers of all
kinds, a student, its figures and report, and the store checked, copied and exported.

The registry's PyTorch brings its CUDA libraries: all environments together download about 6 GB and
take twice that on the disk while it runs. `--small` runs the commands in this environment alone.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import torch
from packaging.requirements import Requirement
from record import RESULTS, Figure, finish

from antcache.kernels.benchmark.machine import device_name, versions
from antcache.kernels.benchmark.rows import write_figures

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")
SETS = {"oldest": "lowest-direct", "newest": "highest"}
WATCHED = ("torch", "numpy", "av", "zarr", "transformers", "numba", "h5py", "click", "pandas")
COMMANDS = """
annotations import table labels kitchen.zarr
extract videos kitchen.zarr --backbone backbone --fps 4
store verify kitchen.zarr
store doctor kitchen.zarr
store convert kitchen.zarr copy.h5 --format hdf5
store verify copy.h5
teacher train kitchen.zarr --name count
teacher train kitchen.zarr --name sequence --kind sequence --epochs 1
teacher train kitchen.zarr --name language --kind language --model words --epochs 1
teacher ensemble kitchen.zarr count sequence --name joint
teacher score kitchen.zarr count
student train kitchen.zarr --run runs/plain --epochs 1
student train kitchen.zarr --run runs/distilled --targets joint --epochs 1
evaluate kitchen.zarr runs/plain runs/distilled
report kitchen.zarr --a runs/plain --b runs/distilled -o report.html
export lmdb kitchen.zarr --stream rgb --output lmdb
import lmdb again.zarr rgb=lmdb
annotations import table labels copy.h5 --overwrite
student train copy.h5 --run runs/hdf5 --epochs 1
"""


def make_kitchen(folder: Path, recipes: int = 2, *, tiny: bool = False) -> None:
    """What a user has at the start: videos of so many recipes each, labels, a backbone and a
    language model; with `tiny`, as much happens in videos half as long, high and wide."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from antcache.demo.kitchen import KitchenConfig
    from antcache.demo.render import RenderConfig
    from antcache.demo.run import DemoConfig, Steps, write_kitchen

    kitchen = KitchenConfig(
        train_videos=5, validation_videos=2, scripts=1, recipes_per_video=recipes
    )
    render = RenderConfig()
    if tiny:
        kitchen = replace(kitchen, action_s=(0.6, 1.4), pause_s=(0.1, 0.3))
        render = RenderConfig(size=32)
    store, _ = write_kitchen(folder, DemoConfig(kitchen=kitchen, render=render), Steps())
    names = [*store.taxonomy.verbs, *store.taxonomy.nouns]
    shutil.rmtree(folder / "kitchen.zarr")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, ",", *(part for name in names for part in name.split("-"))]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    roles = {f"{name.strip('[]').lower()}_token": name for name in special}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder / "words")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(vocabulary), num_hidden_layers=1, **sizes)
    BertModel(config).save_pretrained(folder / "words")


def whole_method(folder: Path, recipes: int = 2) -> dict[str, Any]:
    """Run every command with this Python; which failed and how, and the versions that ran."""
    torch.set_num_threads(1)  # a process that has threads must not fork
    make_kitchen(folder, recipes)
    forked.preload()
    commands = [line.split() for line in COMMANDS.strip().splitlines()]
    failed = {}
    for words in commands:
        done = forked.run(words, folder=folder, timeout_s=600)
        if done.code:
            failed[" ".join(words)] = done.stderr[-2000:]
    return {"commands": len(commands), "failed": failed, "versions": versions(WATCHED)}


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """Run a program that must succeed; its output. Nothing of pip's or uv's settings counts."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_")) or name == "UV_CACHE_DIR"
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return done.stdout


def uv() -> str:
    """The installer: it knows the lowest versions, and is quick."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else "uv"


def pythons_here() -> list[str]:
    """Those of `PYTHONS` that run; a name on the path may be a stand-in that doesn't."""
    return [
        name
        for name in PYTHONS
        if shutil.which(name)
        and not subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode
    ]


def requirements(wheel: Path) -> list[str]:
    """What `antcache[all]` names itself, but for what `gpu` alone names."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    named = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]

    def of(extra: str) -> set[str]:
        return {
            f"{r.name}{r.specifier}"
            for r in named
            if not r.marker or r.marker.evaluate({"extra": extra})
        }

    return sorted(of("all") - (of("gpu") - of("")))


def try_set(python: str, resolution: str, wheel: Path, folder: Path) -> dict[str, Any]:
    """Make an environment with one set of versions, and run the whole method in it."""
    environment, kitchen = folder / "environment", folder / "kitchen"
    listed = folder / "requirements.txt"
    kitchen.mkdir(parents=True)
    listed.write_text("\n".join(requirements(wheel)) + "\n", "utf-8")
    run(uv(), "venv", "-q", "--no-config", "--python", shutil.which(python) or python, environment)
    install = [uv(), "pip", "install", "-q", "--no-config", "--python", str(environment)]
    run(*install, "--only-binary", ":all:", "--resolution", resolution, "-r", listed)
    run(*install, "--no-deps", wheel)
    said = run(environment / "bin/python", Path(__file__), "--inside", kitchen, folder=kitchen)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def judge(name: str, found: dict[str, Any]) -> Figure:
    """The commands that worked, of all; prints what became of the others."""
    for command, why in found["failed"].items():
        print(f"{name}: antcache {command}\n{why}", file=sys.stderr)
    worked = found["commands"] - len(found["failed"])
    shown = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    print(f"{name}: {worked} of {found['commands']} commands; {shown}", flush=True)
    return Figure(
        figure=f"commands that work, {name}",
        value=worked,
        unit="",
        at_least=found["commands"],
        n=found["commands"],
    )


def main() -> None:
    """Install, run, print, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="update the results file")
    parser.add_argument(
        "--small", action="store_true", help="the versions that are here, short videos"
    )
    parser.add_argument("--python", action="append", help="a Python to try; may be given again")
    parser.add_argument("--folder", type=Path, help="where it all goes (default: temporary)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(whole_method(given.inside)))
        return
    figures = []
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch)
        if given.small:
            finish("versions", [judge("here", whole_method(folder, recipes=1))], record=False)
            return
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT)
        (wheel,) = folder.glob("*.whl")
        for python in given.python or pythons_here():
            for which, resolution in SETS.items():
                found = try_set(python, resolution, wheel, folder / f"{python}-{which}")
                name = f"Python {found['versions']['python'].rpartition('.')[0]}, {which} versions"
                figures.append(judge(name, found))
                if given.record:
                    write_figures(
                        RESULTS / "versions.json",
                        figures[-1:],
                        device=device_name("cpu"),
                        versions=found["versions"],
                        command=" ".join(["python", "benchmarks/versions.py", *sys.argv[1:]]),
                    )
                shutil.rmtree(folder / f"{python}-{which}")
    finish("versions", figures, record=False)


if __name__ == "__main__":
    main()
