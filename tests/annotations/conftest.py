"""Small files in the published forms, and the real ones where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from antcache.annotations import Dataset, read_annotations

Write = Callable[..., Path]

EK55_ACTIONS = """id,action,verb,noun
0, take_pan,0,0
1, grab_board:cutting,0,1
2, open_door,2,2
"""
EK55_TRAINING = """00010, P01_02, 0000000152, 0000000205, 000, 000, 0000
00011, P01_02, 0000000200, 0000000278, 002, 002, 0002
"""
EK55_VALIDATION = "00002, P01_01, 0000000031, 0000000101, 000, 001, 0001\n"
EK55_VERB_CLASSES = "verb_id,class_key,verbs\r\n0,take,\"['take', 'grab']\"\r\n1,put,['put']\r\n"
EK55_VERB_CLASSES += "2,open,['open']\r\n"
EK55_NOUN_CLASSES = "noun_id,class_key,nouns\n0,pan,['pan']\n1,board:cutting,\"['a', 'b']\"\n"
EK55_NOUN_CLASSES += "2,door,['door']\n"
EK55_OFFICIAL = """uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,\
start_frame,stop_frame,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes
2,P01,P01_01,take board,00:00:01.05,00:00:03.37,8,202,take,0,board:cutting,1,"['a', 'b']","[1, 2]"
10,P01,P01_02,take pan,00:00:05.07,00:00:06.83,300,410,take,0,pan,0,['pan'],[0]
11,P01,P01_02,open door,00:00:06.67,00:00:09.27,400,500,open,2,door,2,['door'],[2]
"""

EK100_HEADER = """narration_id,participant_id,video_id,narration_timestamp,start_timestamp,\
stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,\
all_noun_classes
"""
EK100_TRAIN = EK100_HEADER + (
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:02.14,00:00:03.37,8,202,open door,open,1,door,1,"
    "['door'],[1]\n"
    "P01_01_10,P01,P01_01,00:00:20.5,00:00:20.00,00:00:21.00,1200,1260,take tap,take,0,tap,0,"
    "['tap'],[0]\n"
    "P01_01_1,P01,P01_01,00:00:02.629,00:00:04.37,00:00:06.17,262,370,take lid off pot,take,0,"
    "lid,2,\"['lid', 'pot']\",\"[2, 5]\"\n"
)
EK100_VALIDATION = EK100_HEADER + (
    "P02_01_0,P02,P02_01,00:00:01.089,00:00:09.00,00:00:10.00,540,600,take door,take,0,door,1,"
    "['door'],[1]\n"
)
EK100_VERBS = (
    "id,key,instances,category\n0,take,\"['take', 'get']\",retrieve\n1,open,['open'],access\n"
)
EK100_NOUNS = (
    '"id","key","instances","category"\n0,"tap","[\'tap\']","a"\n1,"door","[\'door\']","b"\n'
    '2,"lid","[\'lid\']","c"\n'
)

EGTEA_ACTIONS = "0, 0_0, Inspect/Read_recipe\n1, 1_1, Take_eating:utensil\n2, 1_0, Take_recipe\n"
EGTEA_TRAINING = "2,P07-R01-PastaSalad,2751,2808,1,1,1\n8,P20-R03,5256,5315,0,0,0\n"
EGTEA_VALIDATION = "1,P07-R01-PastaSalad,17497,17581,1,0,2\n"

TABLE = """uid,video,start,stop,verb,noun,split
a,one.mp4,1.5,2.5,take,pan,train
b,one.mp4,3.25,4,put,pan,train
c,two.mp4,2,3.5,take,cup,val
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files (text or bytes by name) into one folder, and return it."""

    def to_folder(files: dict[str, str | bytes]) -> Path:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(data)
        return tmp_path

    return to_folder


@pytest.fixture
def ek55_files() -> dict[str, str | bytes]:
    """EPIC-KITCHENS-55 in RULSTM's form, with class files."""
    return {
        "training.csv": EK55_TRAINING,
        "validation.csv": EK55_VALIDATION,
        "actions.csv": EK55_ACTIONS,
        "EPIC_verb_classes.csv": EK55_VERB_CLASSES,
        "EPIC_noun_classes.csv": EK55_NOUN_CLASSES,
    }


@pytest.fixture
def ek55_official_files() -> dict[str, str | bytes]:
    """The same segments in the official form, with RULSTM's lists of videos."""
    return {
        "EPIC_train_action_labels.csv": EK55_OFFICIAL,
        "EPIC_verb_classes.csv": EK55_VERB_CLASSES,
        "EPIC_noun_classes.csv": EK55_NOUN_CLASSES,
        "training_videos.csv": "P01_02\n",
        "validation_videos.csv": "P01_01\n",
    }


@pytest.fixture
def ek100_files() -> dict[str, str | bytes]:
    """EPIC-KITCHENS-100 in RULSTM's form; rows are not in time order."""
    return {
        "training.csv": "P01_01_0,P01_01,64,101,1,1,3\nP01_01_10,P01_01,600,630,0,0,0\n"
        "P01_01_1,P01_01,131,185,0,2,2\n",
        "validation.csv": "P02_01_0,P02_01,270,300,0,1,1\n",
        "actions.csv": "id,verb,noun,action\n0,0,0,take tap\n1,0,1,take door\n2,0,2,take lid\n"
        "3,1,1,open door\n",
    }


@pytest.fixture
def ek100_official_files() -> dict[str, str | bytes]:
    """The same in the official form."""
    return {
        "EPIC_100_train.csv": EK100_TRAIN,
        "EPIC_100_validation.csv": EK100_VALIDATION,
        "EPIC_100_verb_classes.csv": EK100_VERBS,
        "EPIC_100_noun_classes_v2.csv": EK100_NOUNS,
    }


@pytest.fixture
def egtea_files() -> dict[str, str | bytes]:
    """EGTEA Gaze+, split 1."""
    return {
        "training1.csv": EGTEA_TRAINING,
        "validation1.csv": EGTEA_VALIDATION,
        "actions.csv": EGTEA_ACTIONS,
    }


@pytest.fixture
def table_text() -> str:
    """A table with names and a column of splits."""
    return TABLE


@pytest.fixture(scope="session")
def ek55(data_dir: Path) -> Dataset:
    """The real EPIC-KITCHENS-55, RULSTM's form."""
    return read_annotations("epic-kitchens-55", data_dir / "epic-kitchens-55")


@pytest.fixture(scope="session")
def ek55_official(data_dir: Path) -> Dataset:
    """The real EPIC-KITCHENS-55, official form."""
    return read_annotations("epic-kitchens-55-official", data_dir / "epic-kitchens-55")


@pytest.fixture(scope="session")
def egtea(data_dir: Path) -> Dataset:
    """The real EGTEA Gaze+, split 1."""
    return read_annotations("egtea", data_dir / "egtea")
