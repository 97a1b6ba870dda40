"""Files of predictions: every form gives the same targets, and other files are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published_predictions import (
    ALL,
    CLASSES,
    Entry,
    check_all,
    columns,
    entry,
    feature_of,
    imported,
    logits_of,
    write,
)

from antcache.errors import AntcacheError, NotFound, RefusedPickle
from antcache.store import Store


def as_tensors(uid: int) -> Entry:
    return entry(
        uid,
        uid=torch.tensor(uid),
        logit_action=torch.from_numpy(logits_of(uid))[None],
        LM_feat=torch.from_numpy(feature_of(uid)),
    )


def write_torch(path: Path) -> None:
    torch.save([as_tensors(u) for u in ALL], path)


def write_old_torch(path: Path) -> None:
    torch.save([as_tensors(u) for u in ALL], path, _use_new_zipfile_serialization=False)


def write_npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **columns())


def write_npz_as_the_paper_calls_it(path: Path) -> None:
    own = columns()
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            uid=own["uid"].astype("U"),
            logit_action=own["logits"][..., None].astype("f8"),
            LM_feat=own["feature"][:, None],
        )


def write_parquet(path: Path, *, wide: bool = False, fixed: bool = False) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    own = columns()
    kind = pa.list_(pa.float32(), CLASSES) if fixed else pa.list_(pa.float32())
    table = {"uid": own["uid"], "LM_feat": list(own["feature"])}
    if wide:
        table |= {str(c): own["logits"][:, c] for c in reversed(range(CLASSES))}
    else:
        table["logits"] = pa.array(list(own["logits"]), type=kind)
    pq.write_table(pa.table(table), path, row_group_size=7)


FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "published pickle": ("pickle", lambda p: write(p, [entry(u) for u in ALL])),
    "pickle of tensors": ("pickle", lambda p: write(p, [as_tensors(u) for u in ALL])),
    "flat lists": (
        "pickle",
        lambda p: write(p, [entry(u, uid=str(u), logit_action=logits_of(u).tolist()) for u in ALL]),
    ),
    "columns": ("pickle", lambda p: write(p, columns())),
    "columns of lists": (
        "pickle",
        lambda p: write(p, {name: list(column) for name, column in columns().items()}),
    ),
    "torch.save": ("pickle", write_torch),
    "older torch.save": ("pickle", write_old_torch),
    "npz": ("npz", write_npz),
    "npz, other names": ("npz", write_npz_as_the_paper_calls_it),
    "parquet of lists": ("parquet", write_parquet),
    "parquet of fixed lists": ("parquet", lambda p: write_parquet(p, fixed=True)),
    "parquet, one column per class": ("parquet", lambda p: write_parquet(p, wide=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_targets(store: Store, tmp_path: Path, form: str) -> None:
    """The form is told by the content: the file has no ending."""
    name, make = FORMS[form]
    make(tmp_path / "file")
    targets, report = imported(store, tmp_path / "file")
    check_all(targets)
    assert report.files[0]["form"] == name
    assert report.files[0]["predictions"] == len(ALL)


def test_dictionary_of_logits_as_the_published_student_reads_it(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path / "f", {np.int64(u): torch.from_numpy(logits_of(u)) for u in ALL})
    targets, report = imported(store, path)
    np.testing.assert_array_equal(targets.logits, [logits_of(uid) for uid in ALL])
    assert targets.feature is None
    assert report.feature is None


def test_files_of_other_kinds(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def refused(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(AntcacheError, match=f"^{path}: ") as caught:
            imported(store, path)
        return str(caught.value)

    np.save(tmp_path / "x.npy", np.ones(3))
    assert "a single numpy array" in refused((tmp_path / "x.npy").read_bytes())
    assert "gzip" in refused(b"\x1f\x8b\x08 etc")
    assert "parquet" in refused(b"PAR1 and then nothing of the kind")
    assert "not a whole pickle" in refused(b"uid,logits\n1,2\n")
    assert "empty" in refused(b"")
    np.savez(tmp_path / "o.npz", uid=np.array(["1"]), logits=np.array([None], dtype=object))
    assert "object arrays are not read" in refused((tmp_path / "o.npz").read_bytes())
    np.savez(tmp_path / "p.npz", logits=np.ones((1, 6)))
    assert "expected a column uid, found 'logits'" in refused((tmp_path / "p.npz").read_bytes())
    npz = (tmp_path / "p.npz").read_bytes()
    assert "read" in refused(npz[: len(npz) // 2])
    with pytest.raises(NotFound, match="absent"):
        imported(store, tmp_path / "absent")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"uid": ["1"], "0": [1.0], "2": [1.0]}), path)
    assert "expected a column 1" in refused(path.read_bytes())
    pq.write_table(pa.table({"uid": ["1"], "logits": [1.0]}), path)
    assert "no column of lists" in refused(path.read_bytes())
    pq.write_table(pa.table({"uid": ["1"], "logits": [["a"] * 6]}), path)
    assert "logits is not numbers" in refused(path.read_bytes())


def test_a_hostile_pickle_writes_and_runs_nothing(store: Store, tmp_path: Path) -> None:
    proof = tmp_path / "proof"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {proof}",)

    path = write(tmp_path / "f.pkl", [entry(1), entry(2, LM_feat=Hostile())])
    with pytest.raises(RefusedPickle, match=r"found posix\.system \(nothing of it was run"):
        imported(store, path)
    assert not proof.exists()
    assert store.target_names() == []
