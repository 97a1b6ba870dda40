"""Tables and lists of text that lie, wait, or have no end.

Promise: see `cases.py`.
"""

from __future__ import annotations

from cases import InputCase
from hostile_writers import EVIL, NINES, case, link, pipe, raw, text
from specimen_texts import EK100_HEAD

HEAD = "uid,video,start,stop,verb,noun\n"
TABLE = ("annotations summary table table", "annotations import table table new.zarr")
OFFICIAL = ("annotations summary epic-kitchens-100-official ek100",)
RULSTM = ("annotations summary epic-kitchens-55 ek55",)
LISTED = (
    "student predict s.zarr run --segments files/test_seen.csv -o p.safetensors",
    "submit s.zarr run --challenge ek55 -o s.json --segments files/test_seen.csv",
)
SCRIPTS = ("teacher train s.zarr --name new --scripts files/scripts.txt",)


def cases() -> list[InputCase]:
    """The cases of tables and lists."""
    row = "{},v,1.5,2.5,take,pan\n"
    many = HEAD + row.format("u" * 100_000) + "".join(map(row.format, range(20_000)))
    evil = HEAD + "".join(
        f'"{i} {EVIL}","v {EVIL}",{i}.5,{i}.75,"take {EVIL}",pan\n' for i in range(9)
    )
    with_hours = "".join(
        f"P01_01_{i},P01,P01_01,00:00:01,{NINES[:4000]}:00:01.0,{NINES[:4000]}:00:02.0,1,2,x,x,0,x,0,x,x\n"
        for i in range(2)
    )
    pairs = f'action_class\n"({NINES[:4000]}, 0)"\n'
    return [
        case("table: one name of 100 kB among 20,000", text("table/train.csv", many), *TABLE),
        case(
            "table: a cell of 10 MB",
            text("table/train.csv", HEAD + row.format("u" * (10 << 20))),
            *TABLE,
        ),
        case(
            "table: an open quote", text("table/train.csv", HEAD + '"' + "a,b\n" * 100_000), *TABLE
        ),
        case("table: a named pipe", pipe("table/train.csv"), *TABLE),
        case("table: an endless device", link("table/train.csv", "/dev/zero"), *TABLE),
        case(
            "table: a header of 100,000 columns",
            text("table/train.csv", ",".join(map(str, range(100_000)))),
            *TABLE,
        ),
        case(
            "table: times of 400 digits",
            text("table/train.csv", HEAD + f"a,v,1,{'9' * 400},take,pan\n"),
            *TABLE,
        ),
        case("table: names with escapes", text("table/train.csv", evil), *TABLE),
        case("table: UTF-16", raw("table/train.csv", (HEAD * 3).encode("utf-16")), *TABLE),
        case(
            "official table: hours of 4,000 digits",
            text("ek100/EPIC_100_train.csv", EK100_HEAD + with_hours),
            *OFFICIAL,
        ),
        case(
            "many-shot list: ids of 4,000 digits",
            text("ek55/EPIC_many_shot_actions.csv", pairs),
            *RULSTM,
        ),
        case(
            "actions: ids far apart",
            text("ek55/actions.csv", "id,action,verb,noun\n0,a,99999,99999\n"),
            *RULSTM,
        ),
        case("test list: a named pipe", pipe("files/test_seen.csv"), *LISTED),
        case(
            "test list: a first line of 50 MB",
            text("files/test_seen.csv", "a" * (50 << 20)),
            *LISTED,
        ),
        case(
            "participants: a named pipe",
            pipe("files/unseen.csv"),
            "evaluate s.zarr run --unseen files/unseen.csv",
        ),
        case("scripts: a named pipe", pipe("files/scripts.txt"), *SCRIPTS),
        case(
            "scripts: an action of 5 MB",
            text("files/scripts.txt", "take pan, " + "x" * (5 << 20)),
            *SCRIPTS,
        ),
    ]
