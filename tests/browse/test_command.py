"""`antcache browse` as a command: files, refusals, and a server that ends with Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from antcache.browse import Shelf, export_pages
from antcache.cli.main import cli
from antcache.errors import AlreadyExists
from antcache.store import Store


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["browse", *map(str, words)])
    assert result.exit_code == code, (result.output, result.exception)
    if code:
        assert result.stderr.count("\n") == 1
        assert "Traceback" not in result.stderr
    return result


def test_export(browsed: Path, films: Path, tmp_path: Path) -> None:
    store, out = browsed / "kitchen.zarr", tmp_path / "new/out"
    options = ("--run", browsed / "runs/plain", "--videos", films, "--export", out)
    said = json.loads(run(store, *options, "--json").stdout)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert said == {"export": str(out), "files": len(files)}
    shelf = Shelf(Store.open(store), runs=[browsed / "runs/plain"], videos=films, single=False)
    for name in shelf.names():
        text = (out / f"data/{name}.js").read_text("ascii")
        if name.startswith(("strip", "list")):
            continue  # made again of a film; paths
        assert text == f'antcache("{name}",{shelf.document(name).decode()});\n'
    page = (out / "index.html").read_text("utf-8")
    assert '<html data-from="files" lang="en">' in page
    strip = (out / "data/strip-8.js").read_text().removeprefix('antcache("strip-8",')
    assert len(json.loads(strip.removesuffix(");\n"))["pictures"]) == 24
    assert not list(out.rglob("seen*"))
    refused = run(store, "--export", out, code=2)
    assert "something is already here" in refused.stderr
    with pytest.raises(AlreadyExists, match="something is already here"):
        export_pages(shelf, out)
    assert [path for path in out.rglob("*") if path.is_file()] == files


def test_an_export_that_fails_leaves_nothing(
    browsed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, usual = Shelf(Store.open(browsed / "kitchen.zarr")), Shelf.document

    def document(self: Shelf, name: str) -> bytes:
        if name == "video-4":
            raise KeyboardInterrupt
        return usual(self, name)

    monkeypatch.setattr(Shelf, "document", document)
    with pytest.raises(KeyboardInterrupt):
        export_pages(shelf, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_one_line(browsed: Path, tmp_path: Path) -> None:
    store = browsed / "kitchen.zarr"
    assert "no store here" in run(tmp_path / "none", code=2).stderr
    assert "no predictions here" in run(store, "--run", tmp_path, code=2).stderr
    assert "no videos here" in run(store, "--videos", tmp_path, code=2).stderr
    assert "impossible --port" in run(store, "--port", 65536, code=2).stderr
    words = ("--export", tmp_path / "out", "--host", "0.0.0.0")
    assert "--host has no effect" in run(store, *words, code=2).stderr
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = run(store, "--port", port, code=2).stderr
    assert f"127.0.0.1:{port}: the port is in use (choose another" in said


def test_without_starlette_the_extra_is_named(
    browsed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert "antcache[serve]" in run(browsed / "kitchen.zarr", code=2).stderr
    run(browsed / "kitchen.zarr", "--export", tmp_path / "out")  # needs none


def test_it_serves_until_it_is_interrupted(browsed: Path) -> None:
    command = [sys.executable, "-m", "antcache", "browse", "kitchen.zarr", "--port", "0", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=browsed, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = "".join(process.stdout.readline() for _ in range(4))
        found = json.loads(said)
        assert found["videos"] == 10
        with urllib.request.urlopen(found["address"], timeout=30) as answer:
            assert b"antcache browse" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "interrupted: nothing was changed.\n"
