"""Hostile pickles, read without being run: each has a command that would leave `proof` behind.

Every one is first shown to be hostile: the pickle module itself, in a process of its own, leaves
that file behind. (The exceptions say why they can't.)
"""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade_pickles import PROTOCOLS, named, pickled_storage_of, text

from antcache.errors import RefusedPickle
from antcache.interop.arrays.pickled_tensors import read_pickle


class Call:
    """Pickled as a call of `function(*arguments)`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def new_objects(shell: str, make: bytes) -> bytes:
    """`tuple(map(os.system, [shell]))` without a call: by the opcodes that make instances."""
    calls = named("builtins", "map") + named("os", "system") + b"](" + text(shell) + b"e\x86" + make
    return b"\x80\x04" + named("builtins", "tuple") + calls + b"\x85" + make + b"."


def hostile_files(proof: Path) -> dict[str, bytes]:
    """Files that run a command as soon as the pickle module reads them."""
    shell = f"touch {proof}"
    python = f"open({str(proof)!r}, 'w')"
    line = shell.encode()
    bomb = Call(os.system, shell)
    objects = np.empty(1, dtype=object)
    objects[0] = bomb
    storage = io.BytesIO()
    torch.save(bomb, storage, _use_new_zipfile_serialization=False)
    return {f"os.system, protocol {p}": pickle.dumps(bomb, p) for p in PROTOCOLS} | {
        "eval": pickle.dumps(Call(eval, python)),
        "exec": pickle.dumps(Call(exec, python)),
        "subprocess.Popen": pickle.dumps(Call(subprocess.Popen, ["touch", str(proof)])),
        "text of protocol 0": b"cposix\nsystem\n(S'" + line + b"'\ntR.",
        "INST": b"(S'" + line + b"'\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\nS'" + line + b"'\no.",
        "NEWOBJ": new_objects(shell, b"\x81"),
        "NEWOBJ_EX": new_objects(shell, b"}\x92"),
        "BUILD with __setstate__": b"\x80\x04"
        + named("argparse", "Namespace")
        + b")R}"
        + text("__setstate__")
        + named("os", "system")
        + b"sb"
        + text(shell)
        + b"b.",
        "within LM_feat": pickle.dumps(
            [{"uid": 1, "logit_action": np.ones(3, "f4"), "LM_feat": bomb}]
        ),
        "as a key": pickle.dumps({"uid": 1})[:-1]
        + b"\x80\x04("
        + named("os", "system")
        + text(shell)
        + b"\x85RK\x01u.",
        "array of objects": pickle.dumps(objects),
        "array of objects, protocol 2": pickle.dumps(objects, 2),
        "torch within a pickle": pickle.dumps(
            Call(torch.storage._load_from_bytes, storage.getvalue())
        ),
        "torch within torch": pickle.dumps(
            Call(
                torch.storage._load_from_bytes,
                pickled_storage_of(Call(torch.storage._load_from_bytes, storage.getvalue())),
            )
        ),
        "metadata of a dtype": b"\x80\x04"
        + named("numpy", "dtype")
        + text("f4")
        + b"\x89\x88\x87R"
        + b"(K\x04"
        + text("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00}"
        + text("x")
        + named("os", "system")
        + text(shell)
        + b"\x85Rstb.",
        "dotted name": b"\x80\x04"
        + named("numpy", "testing._private.utils.runstring")
        + text(python)
        + b"}\x86R.",
        "dotted name of an admitted module": b"\x80\x04"
        + named("collections", "_sys.modules.get")
        + text("os")
        + b"\x85R0"
        + named("posix", "system")
        + text(shell)
        + b"\x85R.",
        "getattr": b"\x80\x04"
        + named("builtins", "getattr")
        + named("numpy", "testing")
        + b"0"
        + named("os", "path")
        + text("os")
        + b"\x86R0"
        + named("os", "system")
        + text(shell)
        + b"\x85R.",
        "call of a call": b"\x80\x04"
        + named("functools", "partial")
        + named("os", "system")
        + text(shell)
        + b"\x86R)R.",
        "behind the value": b"\x80\x04]" + named("os", "system") + text(shell) + b"\x85R0.",
        "import of a module": b"\x80\x04" + named("antcache_hostile", "x") + b".",
    }


NAMES = sorted(hostile_files(Path("proof")))


@pytest.mark.slow
def test_the_hostile_files_are_hostile(tmp_path: Path) -> None:
    """The pickle module runs every one of them: else the next test would prove nothing."""
    for number, name in enumerate(NAMES):
        content = hostile_files(tmp_path / f"proof{number}")[name]
        (tmp_path / f"file{number}").write_bytes(content)
    proof = tmp_path / f"proof{NAMES.index('import of a module')}"
    (tmp_path / "antcache_hostile.py").write_text(f"x = open({str(proof)!r}, 'w')")
    code = (
        "import pickle, time\n"
        f"for number in range({len(NAMES)}):\n"
        "    try: pickle.load(open(f'file{number}', 'rb'))\n"
        "    except Exception as error: print(number, repr(error))\n"
        "time.sleep(0.5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    harmless = [n for i, n in enumerate(NAMES) if not (tmp_path / f"proof{i}").exists()]
    assert not harmless, done.stdout


@pytest.fixture(scope="module")
def reader() -> Any:
    """A process that reads files when told to and says how it went."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from antcache.errors import AntcacheError\n"
        "from antcache.interop.arrays.pickled_tensors import read_pickle\n"
        "for line in sys.stdin:\n"
        "    try: said = 'read ' + type(read_pickle(Path(line.strip()))).__name__\n"
        "    except AntcacheError as error: said = 'refused ' + str(error)\n"
        "    print(said, 'torch' in sys.modules, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_run_nothing(tmp_path: Path, reader: Any, name: str) -> None:
    proof = tmp_path / "proof"
    (tmp_path / "antcache_hostile.py").write_text(f"x = open({str(proof)!r}, 'w')")
    path = tmp_path / "file.pkl"
    path.write_bytes(hostile_files(proof)[name])
    reader.stdin.write(f"{path}\n")
    reader.stdin.flush()
    said = reader.stdout.readline()
    assert said.startswith(f"refused {path}: "), said
    assert "nothing of it was run" in said
    assert said.endswith(" False\n"), "torch was loaded"
    assert not proof.exists()


@pytest.mark.parametrize("compressed", [True, False])
def test_zip_archives_that_are_not_of_torch(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "file.pth"
    proof = tmp_path / "proof"
    bomb = pickle.dumps(Call(os.system, f"touch {proof}"))
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", bomb)
    why = "compressed" if compressed else r"posix\.system"
    with pytest.raises(RefusedPickle, match=why):
        read_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(RefusedPickle, match="neither of torch"):
        read_pickle(path)
    assert not proof.exists()
