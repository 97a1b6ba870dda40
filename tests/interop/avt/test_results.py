"""AVT's stored scores become soft targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from antcache.errors import BadPredictions
from antcache.interop.predictions.files import open_predictions


def append(path: Path, **columns: Any) -> None:
    """As `store_append_h5` does it, batch by batch."""
    with h5py.File(path, "a") as file:
        for key, value in columns.items():
            name = key.replace("__", "/")
            if name not in file:
                shape = (None, *value.shape[1:])
                file.create_dataset(
                    name,
                    data=value,
                    compression="gzip",
                    compression_opts=9,
                    chunks=True,
                    maxshape=shape,
                )
            else:
                file[name].resize((len(file[name]) + len(value), *value.shape[1:]))
                file[name][-len(value) :] = value


@pytest.mark.parametrize("text", [True, False])
def test_uid_and_logits_are_read(tmp_path: Path, text: bool) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "0.h5"
    logits = rng.standard_normal((7, 5)).astype(np.float32)
    uid = np.array([f"P01_01_{n}" if text else n for n in range(7)])
    uid = uid.astype("S64") if text else uid
    for rows in (slice(0, 4), slice(4, 7)):
        count = rows.stop - rows.start
        append(
            path,
            logits__action=logits[rows],
            logits__verb=rng.standard_normal((count, 2)),
            uid=uid[rows],
            idx=np.arange(count),
            target__action=np.zeros(count, dtype=np.int64),
            epoch=np.array([12.0]),
        )
    found = open_predictions(path)
    assert found.form == "hdf5"
    predictions = list(found.predictions)
    assert [p.uid for p in predictions] == [f"P01_01_{n}" if text else str(n) for n in range(7)]
    np.testing.assert_array_equal(np.stack([p.logits for p in predictions]), logits)


def test_other_files_are_refused(tmp_path: Path) -> None:
    append(tmp_path / "a.h5", uid=np.arange(3), target__action=np.zeros(3))
    with pytest.raises(BadPredictions, match=r"no logits/action: expected uid and logits/action"):
        open_predictions(tmp_path / "a.h5")
    append(tmp_path / "b.h5", uid=np.arange(3), logits__action=np.zeros((2, 4), np.float32))
    with pytest.raises(BadPredictions, match="unequal length"):
        list(open_predictions(tmp_path / "b.h5").predictions)
    append(tmp_path / "c.h5", uid=np.arange(3), logits__action=np.zeros((3, 4), np.int64))
    with pytest.raises(BadPredictions, match=r"no array of numbers"):
        open_predictions(tmp_path / "c.h5")
    append(tmp_path / "d.h5", uid=np.arange(3), logits__action=np.zeros(3, np.float32))
    with pytest.raises(BadPredictions, match="not scores of segments"):
        open_predictions(tmp_path / "d.h5")
    whole = (tmp_path / "b.h5").read_bytes()
    (tmp_path / "e.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadPredictions, match="can't be read"):
        open_predictions(tmp_path / "e.h5")


def test_values_from_elsewhere_are_not_taken(tmp_path: Path) -> None:
    append(tmp_path / "there.h5", action=np.zeros((3, 4), np.float32))
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["uid"] = np.arange(3)
        file["logits/action"] = h5py.ExternalLink(tmp_path / "there.h5", "/action")
    with pytest.raises(BadPredictions, match="logits/action is a link"):
        open_predictions(tmp_path / "link.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["uid"] = np.arange(3)
        file.create_dataset("logits/action", (1 << 40, 1 << 20), "f4", chunks=(1, 1 << 20))
    with pytest.raises(BadPredictions, match="with 0 bytes"):
        open_predictions(tmp_path / "empty.h5")
