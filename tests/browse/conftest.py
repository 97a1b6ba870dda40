"""What the tests of the page share: a kitchen, films, and a browser that can be driven."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import BROWSERS

sys.path.insert(0, str(Path(__file__).parent))
from browsed_kitchen import make_kitchen
from driven_browser import DrivenBrowser


@pytest.fixture(scope="session")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the kitchen; nobody changes it."""
    folder = tmp_path_factory.mktemp("browsed")
    make_kitchen(folder)
    return folder


@pytest.fixture(scope="session")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrivenBrowser]:
    """A browser that can be driven, where there is one."""
    program = next((p for p in map(shutil.which, BROWSERS) if p), None)
    if program is None:
        pytest.skip(f"no browser: {', '.join(BROWSERS)}")
    with DrivenBrowser(program, tmp_path_factory.mktemp("driven")) as browser:
        yield browser


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film of one video of the kitchen, and a file that is called like another."""
    import av

    folder = tmp_path_factory.mktemp("films")
    with av.open(str(folder / "P02_01.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height = 96, 64
        for number in range(240):
            picture = np.full((64, 96, 3), 16 * (number % 16), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    (folder / "P02_02.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 64)
    return folder
