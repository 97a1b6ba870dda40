"""File systems without locks, hard links and renames with flags, as clusters have them.

The commands run in a process in which the system's own calls fail, whoever makes them: a small
library stands before the C library's. Where there is no C compiler, Python's calls fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

lmdb = pytest.importorskip("lmdb")
av = pytest.importorskip("av")

REFUSING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
static int refuse(int code) { errno = code; return -1; }
int flock(int file, int what) { (void)file; (void)what; return refuse(ENOLCK); }
int link(const char *old, const char *new) { (void)old; (void)new; return refuse(EPERM); }
int linkat(int a, const char *old, int b, const char *new, int flags)
{ (void)a; (void)old; (void)b; (void)new; (void)flags; return refuse(EPERM); }
int renameat2(int a, const char *old, int b, const char *new, unsigned flags)
{ (void)a; (void)old; (void)b; (void)new; (void)flags; return refuse(EINVAL); }
static int control(const char *name, int file, int what, void *argument)
{
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    if (what == F_SETLK || what == F_SETLKW) return refuse(ENOLCK);
    return real(file, what, argument);
}
#define CONTROL(name) int name(int file, int what, ...) { \\
    va_list rest; va_start(rest, what); void *argument = va_arg(rest, void *); va_end(rest); \\
    return control(#name, file, what, argument); }
CONTROL(fcntl)
CONTROL(fcntl64)
"""

DRIVER = """
import errno, fcntl, json, os, sys
import torch
from click.testing import CliRunner
from antcache.files import disk
from antcache.cli.main import cli

def refuse(code):
    def call(*arguments, **options):
        raise OSError(code, os.strerror(code))
    return call

if "LD_PRELOAD" not in os.environ:
    fcntl.flock, os.link = refuse(errno.ENOLCK), refuse(errno.EPERM)
    disk._renameat2 = lambda *arguments: False
torch.set_num_threads(1)
for call, arguments in ((fcntl.flock, (0, fcntl.LOCK_EX)), (os.link, (__name__, "x"))):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno in (errno.ENOLCK, errno.EPERM), error
    else:
        raise SystemExit("they are there")
outcomes = []
for folder, commands in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    for command in commands:
        result = CliRunner().invoke(cli, command.split())
        outcomes.append((command, result.exit_code, result.stderr, repr(result.exception)))
print(json.dumps(outcomes))
"""

SMALL = "--epochs 1 --width 8 --layers 1 --heads 1 --num-frames 2 --rate 1 --stream feat"
COMMANDS = (
    "extract videos S --backbone vit --device cpu --fps 2",
    "extract videos S --backbone vit --device cpu --fps 2",  # finds all done
    "annotations import table table S",
    "annotations import table table S --overwrite",
    "import lmdb S feat=lmdb",
    "import lmdb S feat=lmdb --fill previous:0.3s",
    "export lmdb S --stream feat --output exported",
    "teacher train S --name count",
    f"student train S {SMALL} --targets count --run run",
    "student predict S run --split validation -o p.safetensors",
    "evaluate S run",
    "store verify S",
    "store repair S",
    "store convert S other.zarr --format zarr",
    "store convert S other.h5 --format hdf5",
)
NAMES = ("v1", "v2", "v3", "v4", "v5", "v6")


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process without locks; empty where it must simulate them."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return {}
    folder = tmp_path_factory.mktemp("refusing")
    (folder / "refusing.c").write_text(REFUSING)
    options = ["-shared", "-fPIC", "-o", "refusing.so", "refusing.c", "-ldl"]
    subprocess.run([compiler, *options], cwd=folder, check=True)
    return {"LD_PRELOAD": str(folder / "refusing.so")}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos, a vision model, a table and an LMDB."""
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("inputs")
    (folder / "videos").mkdir()
    for name in NAMES[:2]:
        with av.open(str(folder / f"videos/{name}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv444p"
            for number in range(20):
                grey = np.full((32, 32, 3), number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode())
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "image_size": 32, "patch_size": 16}
    ViTModel(ViTConfig(**sizes)).save_pretrained(folder / "vit")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "vit/preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "table").mkdir()
    for split in ("train", "validation"):
        rows = [
            f"{split[0]}{i},{NAMES[i % 6]},{i + 3.5},{i + 4},{('take', 'put')[i % 2]},pan"
            for i in range(12)
        ]
        text = "\n".join(["uid,video,start,stop,verb,noun", *rows]) + "\n"
        (folder / f"table/{split}.csv").write_text(text)
    rng = np.random.default_rng(0)
    with (
        lmdb.open(str(folder / "lmdb"), map_size=1 << 24, lock=False) as env,
        env.begin(write=True) as transaction,
    ):
        for name in NAMES:
            for frame in range(15, 600, 15):
                row = rng.normal(size=8).astype("<f4").tobytes()
                transaction.put(f"{name}_frame_{frame:010d}.jpg".encode(), row)
    return folder


def test_commands_work_without_locks_and_links(
    tmp_path: Path, inputs: Path, refusing: dict[str, str]
) -> None:
    """They end well, warn in one line, and nothing is called damaged; in one process, as most of
    its time goes into imports."""
    commands = {}
    for store in ("s.zarr", "s.h5"):
        folder = shutil.copytree(inputs, tmp_path / store[2:])
        commands[str(folder)] = [command.replace(" S", f" {store}") for command in COMMANDS]
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, **refusing, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    outcomes = json.loads(result.stdout.splitlines()[-1])
    assert [command for command, *_ in outcomes] == [*chain(*commands.values())]
    for command, code, stderr, error in outcomes:
        assert code == 0, f"{command}: {stderr}{error}"
    left = {path.name for path in tmp_path.rglob("*") if path.name.startswith(".")}
    assert not left, left


def test_two_writers_of_one_unit_where_nothing_is_exclusive(
    tmp_path: Path, refusing: dict[str, str]
) -> None:
    """A unit that is there stays, whatever the file system can't do."""
    code = """
import sys
import numpy as np
from antcache.errors import AlreadyExists
from antcache.store import Store
store = Store.create(sys.argv[1])
store.create_stream("rgb", dim=2, dtype="float32", fps=1, source="x", config={})
store.write_features("rgb", "v", np.ones((3, 2), np.float32))
try:
    store.write_features("rgb", "v", np.zeros((3, 2), np.float32))
except AlreadyExists:
    print("refused", store.features("rgb", "v").read().sum())
"""
    for name in ("s.zarr", "s.h5"):
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            env={**os.environ, **refusing},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stdout.strip() == "refused 6.0", result.stderr
