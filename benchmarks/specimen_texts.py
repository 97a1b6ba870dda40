"""Small texts in the published forms, of which `specimens.py` makes its kitchen.

Promise: nothing but constants.
"""

from __future__ import annotations

EK55 = {
    "training.csv": "".join(
        f"{i:05d}, P01_02, {200 * i:010d}, {200 * i + 90:010d}, 00{i % 3}, 00{i % 3}, 000{i % 3}\n"
        for i in range(1, 40)
    ),
    "validation.csv": "00900, P01_01, 0000000031, 0000000101, 000, 000, 0000\n",
    "actions.csv": "id,action,verb,noun\n0, take_pan,0,0\n1, put_lid,1,1\n2, open_door,2,2\n",
    "EPIC_verb_classes.csv": "verb_id,class_key,verbs\n0,take,\"['take', 'grab']\"\n1,put,['put']\n"
    "2,open,['open']\n",
    "EPIC_noun_classes.csv": "noun_id,class_key,nouns\n0,pan,['pan']\n1,lid,['lid']\n"
    "2,door,['door']\n",
    "EPIC_many_shot_actions.csv": 'action_class\n"(0, 0)"\n"(2, 2)"\n',
    "EPIC_many_shot_verbs.csv": "verb_class,verb\n0,take\n2,open\n",
    "EPIC_many_shot_nouns.csv": "noun_class,noun\n0,pan\n2,door\n",
}
EK100_HEAD = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)
EK100 = {
    "EPIC_100_train.csv": EK100_HEAD
    + "".join(
        f"P01_01_{i},P01,P01_01,00:00:{i:02d}.089,00:00:{i:02d}.14,00:01:{i:02d}.37,8,202,"
        "open door,open,1,door,1,['door'],[1]\n"
        for i in range(40)
    ),
    "EPIC_100_validation.csv": EK100_HEAD
    + "P02_01_0,P02,P02_01,00:00:01.089,00:00:09.00,00:00:10.00,540,600,take door,take,0,door,1,"
    "['door'],[1]\n",
    "EPIC_100_verb_classes.csv": "id,key,instances,category\n0,take,['take'],a\n1,open,['o'],b\n",
    "EPIC_100_noun_classes.csv": "id,key,instances,category\n0,tap,['tap'],a\n1,door,['d'],b\n",
}
PLAN = """base: &base {epochs: 2, width: 8}
seeds: [0, 1]
settings:
  plain: {<<: *base, lr: 1.0e-3}
  wide: {lr: 0.002}
"""
RECIPES = [
    {
        "id": f"{i:03x}",
        "partition": "train",
        "title": "Soup",
        "instructions": [{"text": "Take the pan and open the door."}, {"text": "Put it away."}],
    }
    for i in range(20)
]
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "rescale_factor": 1 / 255,
    "resample": 2,
    "size": {"height": 32, "width": 32},
}
