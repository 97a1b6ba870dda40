"""Plans of sweeps: what their fields take, which settings may differ, how faults are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny_kitchen import MakeStore

from antcache.cli.main import cli
from antcache.errors import BadConfig, MissingExtra, NotFound
from antcache.settings import settings_of
from antcache.student.config import StudentConfig
from antcache.student.presets import find_preset
from antcache.student.sweeps.plan import Sweep, read_plan
from antcache.student.sweeps.run import sweep
from antcache.untrusted import parse_yaml


def test_without_yaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "plan.yaml").touch()
    with pytest.raises(MissingExtra, match=r"pyyaml.*antcache\[train\]"):
        read_plan(tmp_path / "plan.yaml")


def test_bad_plans_are_refused(make_store: MakeStore, small: StudentConfig, tmp_path: Path) -> None:
    def plan(text: str) -> Sweep:
        (tmp_path / "plan.yaml").write_text(text)
        return read_plan(tmp_path / "plan.yaml")

    cases = {
        "unknown keys of a sweep": "setings: {a: {}}",
        "either settings or a grid": "seeds: [1]",
        "can't be read": "a: [",
        "must be names and values": "- a",
        "seeds must be": "seeds: [x]\nsettings: {a: {}}",
        "different seeds": "seeds: [1, 1]\nsettings: {a: {}}",
        "names its folder": "settings: {../a: {}}",
        "unknown settings of a student": "settings: {a: {wight: 1}}",
        "lr: wrong type: expected float, found 'fast'": "settings: {a: {lr: fast}}",
        "width of b": "settings: {a: {}, b: {width: 8}}",
        "past_weight of b": "settings: {a: {}, b: {past_weight: 1}}",
        "impossible at_once": "at_once: 0\nsettings: {a: {}}",
    }
    for message, text in cases.items():
        with pytest.raises(BadConfig, match=message):
            plan(text)
    with pytest.raises(NotFound, match=r"nothing\.yaml"):
        read_plan(tmp_path / "nothing.yaml")
    gru = small.replace(head="gru", heads=None)
    with pytest.raises(BadConfig, match="can't be trained at once"):
        sweep(make_store(), tmp_path / "runs", Sweep(settings={"a": gru}, seeds=(0,), at_once=2))


def test_a_plan_sets_whatever_an_option_sets() -> None:
    """By name alone or in groups, in YAML's types or as text."""
    settings = {
        **{"num_frames": 5, "rate": "1", "gap_s": 0.5, "parity": "avt", "stream": "rgb,flow"},
        **{"targets": ["a", "b"], "target_weights": "1, 3", "grad_clip": None, "lr": "1e-4"},
        **{"tail": True, "top_k": 3, "fusion": "late", "device": "cpu", "patience": 2},
        "held_out": 0.2,
    }
    wanted = StudentConfig.of(
        **{"num_frames": 5, "rate": 1.0, "gap_s": 0.5, "parity": "avt", "stream": ("rgb", "flow")},
        **{"targets": ("a", "b"), "target_weights": (1.0, 3.0), "grad_clip": None, "lr": 1e-4},
        **{"tail": True, "top_k": 3, "fusion": "late", "device": "cpu", "patience": 2},
        held_out=0.2,
    )
    flat = Sweep.from_dict({"base": settings, "settings": {"a": {}}})
    assert flat.settings["a"] == wanted
    groups: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        groups.setdefault(settings_of(StudentConfig)[name].group, {})[name] = value
    assert Sweep.from_dict({"base": groups, "settings": {"a": {}}}).settings["a"] == wanted
    changed = {"optimization": {"lr": 0.1}}
    other = Sweep.from_dict({"base": groups, "settings": {"a": changed}}).settings["a"]
    assert other == wanted.replace(lr=0.1)
    whole = json.loads(json.dumps(wanted.to_dict()))
    assert Sweep.from_dict({"base": whole, "settings": {"a": {}}}).settings["a"] == wanted


@pytest.mark.parametrize("name", list(settings_of(StudentConfig)))
def test_every_setting_is_one_of_a_plan(name: str) -> None:
    value = StudentConfig().values[name]
    plan = {"base": {name: list(value) if isinstance(value, tuple) else value}}
    found = Sweep.from_dict(plan | {"settings": {"a": {}}})
    assert found.settings["a"] == StudentConfig()


def test_members_differ_in_what_their_fields_allow() -> None:
    """A setting that must be shared is refused, by its name; 0 in all or in none of a switch."""
    others = {
        **{"stream": ("x",), "gap_s": 0.5, "num_frames": 5, "rate": 1.0, "parity": "avt"},
        **{"train_split": "x", "validation_split": "x", "allow_missing": True, "head": "mean"},
        **{"layers": 1, "heads": 1, "width": 8, "epochs": 5, "batch_size": 2, "metric": "x"},
        **{"device": "cpu", "precision": "float32", "compile": "off", "windows": "stream"},
        **{"evaluate_every": 2, "checkpoint_every": 2, "held_out": 0.1},
    }
    base = StudentConfig()
    for name, value in others.items():
        with pytest.raises(BadConfig, match=f"^{name} of b: the settings of a sweep must share"):
            Sweep(settings={"a": base, "b": base.replace(**{name: value})}, seeds=(0,))
    free = {
        **{"targets": ("x",), "weight": 1.0, "temperature": 1.0, "allow_missing_targets": True},
        **{"label_smoothing": 0.1, "logit_adjustment": 0.1, "optimizer": "sgd", "lr": 0.1},
        **{"weight_decay": 0.0, "warmup_epochs": 0.0, "grad_clip": None, "ema": 0.5, "seed": 5},
    }
    for name, value in free.items():
        Sweep(settings={"a": base, "b": base.replace(**{name: value})}, seeds=(0,))
    for name in ("feature_weight", "past_weight", "verb_noun_weight", "dropout"):
        none, some, more = (StudentConfig.of(**{name: value}) for value in (0.0, 0.1, 0.2))
        Sweep(settings={"a": some, "b": more}, seeds=(0,))
        with pytest.raises(BadConfig, match=f"^{name} of b"):
            Sweep(settings={"a": none, "b": some}, seeds=(0,))


def test_hints_name_keys_to_a_sweep_and_options_to_a_run(
    make_store: MakeStore, tmp_path: Path
) -> None:
    store, plan = make_store(), tmp_path / "plan.yaml"
    store.create_stream("flow", dim=3, dtype="float16", fps=4, source="made up", config={})
    plan.write_text("settings: {a: {device: cpu}}")
    runs = ("--runs", str(tmp_path / "runs"))
    said = CliRunner().invoke(cli, ["student", "sweep", str(store.path), str(plan), *runs])
    assert "name one: `stream`" in said.output
    run = ("--run", str(tmp_path / "run"), "--device", "cpu")
    said = CliRunner().invoke(cli, ["student", "train", str(store.path), *run])
    assert "name one: --stream" in said.output


FIVE = ("weight", "temperature", "lr", "ema", "label_smoothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "settings: {a: {targets: [x, 5]}}",
            r"targets\[1\]: .*expected str, found 5",
        ),
        ("settings: {a: {stream: 5}}", "stream: .*expected tuple of str, found 5"),
        ("settings: {a: {width: 256.0}}", r"width: .*expected int or None, found 256\.0"),
        ("settings: {a: {epochs: 2.5}}", r"epochs: .*expected int, found 2\.5"),
        ("settings: {a: {allow_missing: 'no'}}", "allow_missing: .*expected bool, found 'no'"),
        ("settings: {a: {preset: [x]}}", "unknown preset: expected ek55-tsn or"),
        ("settings: {a: {protocol: 5}}", "unknown settings of a student: .*found protocol"),
        ("settings: {a: {1: 2}}", "unknown settings of a student: .*found 1"),
        ("1: 2\nsettings: {a: {}}", "unknown keys of a sweep: .*found 1"),
        ("at_once: two\nsettings: {a: {}}", "at_once: .*expected int or None, found 'two'"),
        ("at_once: 2.5\nsettings: {a: {}}", r"at_once: .*expected int or None, found 2\.5"),
        ("seeds: '01'\nsettings: {a: {}}", "seeds must be a list of whole numbers: found 01"),
        ("seeds: [1.5]\nsettings: {a: {}}", r"seeds must be .*found \[1\.5\]"),
        ("seeds: [true]\nsettings: {a: {}}", r"seeds must be .*found \[True\]"),
        (
            "grid:\n" + "".join(f"  {name}: {list(range(1, 200))}\n" for name in FIVE),
            "too many combinations of the grid: expected at most 10000 runs, found 312079600999",
        ),
        (
            f"seeds: {list(range(5001))}\nsettings: {{a: {{}}, b: {{}}}}",
            "too many settings and seeds: expected at most 10000 runs, found 10002",
        ),
        ("settings: {a: {layers: 101}}", "impossible layers: expected from 1 to 100"),
        ("settings: {a: {width: 65537}}", "impossible width: expected from 1 to 65536"),
        ("settings: {a: {optimizr: sgd}}", r"found optimizr \(did you mean optimizer\?\)"),
        ("base: {epochs: 2, warmup_epochs: 3}\nsettings: {a: {}}", "shorten it .*`warmup_epochs`"),
        ("settings: {a: {self: 1, cls: 2}}", "unknown settings of a student: .*found cls, self"),
        ("settings: {a: {num_frames: 0}}", "impossible num_frames: expected from 1 to 10000"),
        ("settings: {a: {}, b: {num_frames: 5}}", "must share .*expected None, as in a, found 5"),
        (f"seeds: [{'9' * 5000}]\nsettings: {{a: {{}}}}", "the sweep can't be read: .*digits"),
        ("settings: {a: {seed: 3}}", "differ in seed by themselves .*`seeds`"),
        ("grid: {seed: [1, 2]}", "differ in seed by themselves"),
        ("settings: {1: {}, '1': {}}", "the key '1' stands twice"),
        ("grid: {lr: [0.1, 0.1]}", "a value stands twice in the grid"),
        ("base: {model: {lr: 0.1}}\nsettings: {a: {}}", "`lr` is no setting of `model`"),
        ("base: {optimization: {lr: 1.0}, lr: 0.1}\nsettings: {a: {}}", "`lr` is set twice"),
        ("seeds: [-1]\nsettings: {a: {}}", "impossible seeds"),
        ("settings: &a {b: *a}", "the sweep can't be read: found nested too deeply"),
        ("#" * 300_000, "the sweep can't be read: found more than 262144 bytes"),
    ],
)
def test_wrong_types_in_a_plan_are_one_line_that_names_file_and_key(
    make_store: MakeStore, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(BadConfig, match=rf"plan\.yaml: .*{message}"):
        read_plan(tmp_path / "plan.yaml")
    command = ["student", "sweep", str(make_store().path), str(tmp_path / "plan.yaml")]
    said = CliRunner().invoke(cli, [*command, "--runs", str(tmp_path / "runs")])
    assert said.exit_code == 2
    assert len(said.output.splitlines()) == 1, said.output


def test_the_published_sweep_of_the_probe_is_in_the_docs(repo: Path) -> None:
    """All 20 pairs of rate and decay, each once, chosen on training videos held out."""
    page = (repo / "docs" / "student.md").read_text("utf-8")
    (text,) = (t for t in page.split("```yaml\n")[1:] if "ek100-vjepa2-l" in t.split("```")[0])
    plan = Sweep.from_dict(parse_yaml(text.split("```")[0]))
    found = [config.optimization for config in plan.settings.values()]
    rates, decays = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (1e-4, 1e-3, 1e-2, 1e-1)
    pairs = [(one.lr, one.weight_decay) for one in found]
    assert sorted(pairs) == sorted((lr, decay) for lr in rates for decay in decays)
    preset = find_preset("ek100-vjepa2-l")
    for config in plan.settings.values():
        assert config.selection.held_out > 0
        own = {"lr": preset.optimization.lr, "weight_decay": preset.optimization.weight_decay}
        own |= {"held_out": 0.0, "metric": preset.selection.metric}
        assert config.replace(**own) == preset
