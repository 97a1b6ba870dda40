from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from antcache.errors import BadCheckpoint
from antcache.student.runs.checkpoint import (
    OPTIMIZER,
    STATE,
    WEIGHTS,
    latest_checkpoint,
    load_checkpoint,
    load_latest,
    load_whole,
    save_checkpoint,
)


def made(width: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    model = nn.Linear(2, width)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, optimizer = made()
    save_checkpoint(tmp_path, 3, model, optimizer, {"lr": 1}, [{"epoch": 3}])
    path = latest_checkpoint(tmp_path)
    assert path is not None
    return path


def test_returns_what_was_saved(tmp_path: Path) -> None:
    model, optimizer = made()
    save_checkpoint(tmp_path, 1, model, optimizer, {"lr": 1}, [{"epoch": 1}])
    other, other_optimizer = made()
    path = latest_checkpoint(tmp_path)
    assert path is not None
    assert load_checkpoint(path, other, other_optimizer, {"lr": 1}) == (1, [{"epoch": 1}])
    assert torch.equal(model.weight, other.weight)
    mine, theirs = optimizer.state_dict(), other_optimizer.state_dict()
    assert mine["param_groups"] == theirs["param_groups"]
    for i, values in mine["state"].items():
        for name, value in values.items():
            assert torch.equal(value, theirs["state"][i][name])


def test_the_newest_one_is_kept_alone(tmp_path: Path) -> None:
    model, optimizer = made()
    assert latest_checkpoint(tmp_path / "nothing") is None
    left = tmp_path / f".epoch-0008.{'0' * 32}"  # by a process that was killed
    (left / "epoch-0008").mkdir(parents=True)
    for epoch in (9, 10):
        save_checkpoint(tmp_path, epoch, model, optimizer, {}, [])
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-0010"]


def test_another_configuration_is_refused_with_the_difference(saved: Path) -> None:
    with pytest.raises(BadCheckpoint, match="lr: 1 -> 2"):
        load_checkpoint(saved, *made(), {"lr": 2})


def test_what_the_store_no_longer_holds_is_said_in_words(tmp_path: Path) -> None:
    kept = {"lr": 1, "train windows": "60b7", "validation windows": "19f1", "soft targets": "482a"}
    save_checkpoint(tmp_path, 3, *made(), kept, [{"epoch": 3}])
    path = latest_checkpoint(tmp_path)
    assert path is not None
    training = (
        r"the store holds other training windows \(labels, protocol or rows of features\) than"
    )
    with pytest.raises(BadCheckpoint, match=f"{training} when the run began") as caught:
        load_checkpoint(path, *made(), {**kept, "train windows": "b369"})
    assert "60b7" not in str(caught.value)
    assert "settings" not in str(caught.value)
    other = {**kept, "soft targets": "0", "train windows": "b369", "validation windows": "0"}
    both = "other soft targets and other training and validation windows"
    with pytest.raises(BadCheckpoint, match=both):
        load_checkpoint(path, *made(), other)
    with pytest.raises(BadCheckpoint, match=r"another configuration: found lr: 1 -> 2 \(resume"):
        load_checkpoint(path, *made(), {**other, "lr": 2})


def test_what_is_in_windows_is_said_apart_from_which_they_are(tmp_path: Path) -> None:
    kept = {"lr": 1, "train windows": "60b7", "train contents": "b1"}
    save_checkpoint(tmp_path, 3, *made(), kept, [{"epoch": 3}])
    path = latest_checkpoint(tmp_path)
    assert path is not None
    within = "other features, videos or labels of frames in training windows than when the run"
    with pytest.raises(BadCheckpoint, match=f"the store holds {within}"):
        load_checkpoint(path, *made(), {**kept, "train contents": "b2"})
    other = {**kept, "train windows": "0", "train contents": "b2"}
    with pytest.raises(BadCheckpoint, match=r"holds other training windows \([^)]*\) than when"):
        load_checkpoint(path, *made(), other)


def test_an_earlier_version_is_not_asked_for_fingerprints_that_it_did_not_keep(
    tmp_path: Path,
) -> None:
    kept = {"lr": 1, "train windows": "60b7"}
    save_checkpoint(tmp_path, 3, *made(), kept, [{"epoch": 3}])
    path = latest_checkpoint(tmp_path)
    assert path is not None
    newer = {**kept, "train contents": "b1", "weights of soft targets": "c1"}
    assert load_checkpoint(path, *made(), newer)[0] == 3
    with pytest.raises(BadCheckpoint, match="other training windows"):
        load_checkpoint(path, *made(), {**newer, "train windows": "0"})


def test_another_shape_is_refused(saved: Path) -> None:
    model, optimizer = made(4)
    before = model.weight.clone()
    with pytest.raises(BadCheckpoint, match=r"another shape: bias: expected \(4,\), found \(3,\)"):
        load_checkpoint(saved, model, optimizer, {"lr": 1})
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZER, STATE])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_damage_is_refused(saved: Path, name: str, damage: str) -> None:
    file = saved / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"{}")
    with pytest.raises(BadCheckpoint, match="can't be read"):
        load_checkpoint(saved, *made(), {"lr": 1})


def test_optimizer_of_another_shape_is_refused(saved: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other", 3, *made(4), {"lr": 1}, [])
    (saved / OPTIMIZER).write_bytes((tmp_path / "other/epoch-0003" / OPTIMIZER).read_bytes())
    with pytest.raises(BadCheckpoint, match="optimizer's state is of another shape"):
        load_checkpoint(saved, *made(), {"lr": 1})
    assert json.loads((saved / STATE).read_text())["epoch"] == 3


def test_a_setting_newer_than_the_checkpoint_had_its_default(tmp_path: Path) -> None:
    model, optimizer = made()
    save_checkpoint(tmp_path, 1, model, optimizer, {"lr": 1}, [])
    path = latest_checkpoint(tmp_path)
    assert path is not None
    newer = {"lr": 1, "logit_adjustment": 0.0, "computed in": "float32"}
    assert load_checkpoint(path, *made(), newer)[0] == 1
    with pytest.raises(BadCheckpoint, match=r"logit_adjustment: 0.0 -> 0.5"):
        load_checkpoint(path, *made(), {**newer, "logit_adjustment": 0.5})


@pytest.mark.parametrize("read_first", [False, True])
def test_one_that_is_replaced_while_it_is_read_is_not_taken(saved: Path, read_first: bool) -> None:
    """Whether it was still whole, or files of it were gone by then."""
    newer, optimizer = made()
    asked = []

    def load(path: Path) -> nn.Linear:
        asked.append(path.name)
        if len(asked) == 1 and not read_first:
            save_checkpoint(saved.parent, 4, newer, optimizer, {}, [])
        found, _ = made()
        load_whole(path / WEIGHTS, found)
        if len(asked) == 1:
            save_checkpoint(saved.parent, 4, newer, optimizer, {}, [])
        return found

    found = load_latest(saved.parent, load)
    assert asked == ["epoch-0003", "epoch-0004"]
    assert found is not None
    assert torch.equal(found.weight, newer.weight)


def test_one_that_stays_is_asked_once(saved: Path) -> None:
    asked = []

    def load(path: Path) -> nn.Linear:
        asked.append(path)
        raise BadCheckpoint("it is damaged", where=path)

    with pytest.raises(BadCheckpoint, match="it is damaged"):
        load_latest(saved.parent, load)
    assert asked == [saved]
    assert load_latest(saved.parent / "nothing", load) is None
