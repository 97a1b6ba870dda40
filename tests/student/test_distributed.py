"""Two processes over gloo give what one gives; single-process helpers by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from token_kitchen import FUTURE, add_tokens
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.evaluation import Predictions
from antcache.store import SoftTargets, Store
from antcache.student.config import StudentConfig
from antcache.student.runs.checkpoint import AVERAGE, BEST, WEIGHTS, latest_checkpoint
from antcache.student.runs.train import train
from antcache.student.training.distributed import ALONE, Processes, own_device, processes

MakeStore = Callable[..., Store]

NONE = dict.fromkeys(("width", "dropout"))
"""What the probe does not take."""

CODE = """
import torch
from antcache.store import Store
from antcache.student.config import StudentConfig
from antcache.student.runs.train import train
os.environ.update({environment})
for run, values in {configs}.items():
    train(Store.open({store!r}), run, StudentConfig.from_dict(values))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_two_processes_equal_one(
    make_store: MakeStore, small: StudentConfig, tmp_path: Path, together: Callable[..., Any]
) -> None:
    """With dropout, also of attention; masked windows; frame losses; a last batch of 3 windows; of
    int8 tokens, with gaps that are drawn."""
    store = make_store()
    add_tokens(store, dtype="int8", future=FUTURE)
    whole = store.targets("oracle")
    arrays = {name: array[::2] for name, array in whole.arrays().items()}
    store.write_targets("some", SoftTargets(**arrays, attributes=whole.attributes))
    base = small.replace(stream=("rgb",), targets=("some",), allow_missing_targets=True, epochs=2)
    configs = {
        "light": base.replace(feature_weight=0.5, past_weight=0.5, ema=0.9, held_out=0.2, slots=3),
        "avth": base.replace(head="avth", verb_noun_weight=0.5, optimizer="sgd"),
        # A key's bias does not matter to a softmax: AdamW would take the rounding of its gradient,
        # which is 0, for a direction.
        "probe": base.replace(
            head="probe", **NONE, verb_noun_weight=1.0, loss="focal", optimizer="sgd"
        ),
    }
    configs["tokens"] = configs["probe"].replace(stream=("tokens",), num_frames=1, gaps=FUTURE)
    written = {str(tmp_path / name): config.to_dict() for name, config in configs.items()}
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{free_port()}"}
    codes = [
        CODE.format(
            environment=told | {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}"},
            configs=written,
            store=str(store.path),
        )
        for rank in range(2)
    ]
    ended = together(*codes)
    assert [each.code for each in ended] == [0, 0], ended
    for name, config in configs.items():
        one = train(store, tmp_path / f"{name}-alone", config)
        files = [WEIGHTS, AVERAGE, BEST] if name == "light" else [WEIGHTS]
        for file in files:
            mine, theirs = (
                load_file(found / file)
                for run in (tmp_path / f"{name}-alone", tmp_path / name)
                if (found := latest_checkpoint(run / "checkpoint")) is not None
            )
            for key, value in mine.items():
                torch.testing.assert_close(theirs[key], value, rtol=1e-4, atol=1e-6, msg=key)
        scores = Predictions.load(tmp_path / name).scores
        np.testing.assert_allclose(scores, one.predictions.scores, rtol=1e-4, atol=1e-5)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 2  # one process writes
        assert json.loads(lines[0])["loss"] == pytest.approx(one.history[0]["loss"], rel=1e-5)


def test_parts_cover_the_batch_in_order() -> None:
    """5 windows over 2 processes: 3 each, the sixth a repetition that is cut off afterwards."""
    rows = torch.tensor([7, 1, 4, 9, 2])
    parts = [Processes(rank, 2).part_of(rows).tolist() for rank in (0, 1)]
    assert parts == [[7, 1, 4], [9, 2, 7]]
    assert ALONE.part_of(rows) is rows


def test_a_batch_that_does_not_split_is_refused(
    make_store: MakeStore, small: StudentConfig
) -> None:
    from antcache.student.training.training_data import load_training_data

    windows = load_training_data(make_store(), small, torch.device("cpu")).train
    with pytest.raises(BadConfig, match="multiple of 3"):
        next(iter(Processes(0, 3).batches(windows, torch.arange(8), 8)))


def test_masks_are_drawn_for_all_windows_and_split() -> None:
    """5 windows over 2 processes: each has its part of what one process would draw."""
    whole = torch.ones(5, 2)
    torch.manual_seed(3)
    alone = F.dropout(whole, 0.5, training=True)
    for rank, rows in ((0, [0, 1, 2]), (1, [3, 4])):
        torch.manual_seed(3)
        with Processes(rank, 2).dropout(5):
            part = F.dropout(torch.ones(3, 2), 0.5, training=True)
            assert torch.equal(part[: len(rows)], alone[rows])
            with pytest.raises(BadConfig, match=r"can't be split: .*\(3, .*found .*4.*one process"):
                F.dropout(torch.ones(4, 2), 0.5, training=True)


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    two = Processes(rank=1, count=2)
    assert own_device("auto", two) == own_device("cuda", two) == "cuda:1"
    assert own_device("cpu", two) == "cpu"
    assert own_device("cuda:0", Processes()) == "cuda:0"
    with pytest.raises(BadConfig, match="one GPU for several processes"):
        own_device("cuda:0", two)


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = processes("cpu")
    assert group == ALONE
    assert group.first
    assert own_device("auto", group) == "auto"
    assert own_device("cpu", Processes(1, 2)) == "cpu"
