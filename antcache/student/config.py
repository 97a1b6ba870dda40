"""What is trained and how: one frozen record; `presets` has the published settings by name.

Promise: a `StudentConfig` is checked when it is made, is saved with every run, and together with
the store determines the run (on one device and library version). Runs that wrote their settings
flat, as earlier versions did, are read as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from antcache.annotations.protocols import WindowConfig
from antcache.checks import Count, Seed, check_types
from antcache.errors import BadConfig
from antcache.settings import FREE, NOT_LEARNED, changed, read, settings_of, ungrouped, values_of
from antcache.student.heads.config import ModelConfig
from antcache.student.training.data_config import DataConfig
from antcache.student.training.objective_config import DistillationConfig, LossConfig
from antcache.student.training.optimization_config import OptimizationConfig, SelectionConfig


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how a run computes, and how often it looks up."""

    device: str = field(default="auto", metadata=NOT_LEARNED)
    """auto (CUDA where there is one), cpu, cuda, cuda:1, ..."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """float32, bfloat16, or auto (bfloat16 on CUDA and on CPUs that compute in it); weights and
    losses are float32 in any case."""
    compile: Literal["auto", "off", "on"] = field(default="auto", metadata=NOT_LEARNED)
    """torch.compile with CUDA graphs: auto (on CUDA, with one process), off, or on."""
    windows: Literal["auto", "pack", "stream"] = field(default="auto", metadata=NOT_LEARNED)
    """pack (all on the device), stream (read batch by batch while training), or auto (pack if they
    fit the device's free memory); what is learned on a CPU is the same."""
    evaluate_every: Count = field(default=1, metadata=NOT_LEARNED)
    """Epochs between scorings of the validation split; the last epoch is always scored."""
    checkpoint_every: Count = field(default=1, metadata=NOT_LEARNED)
    """Epochs between checkpoints; the last epoch always has one."""

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Settings of one run, in groups; `of`, `replace` and `values` have them by name alone."""

    data: DataConfig = field(default_factory=DataConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    seed: Seed = field(default=0, metadata=FREE)
    """Determines initial weights, order, dropout, and the gaps that are drawn."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check_types(self)
        if self.model.fusion != "concat" and len(self.data.stream) < 2:
            raise BadConfig(
                f"fusion {self.model.fusion!r} has no effect on one stream",
                hint="name several: `stream` rgb,flow",
            )

    @classmethod
    def of(cls, /, **settings: Any) -> StudentConfig:
        """A config from settings by name, whichever their groups: `StudentConfig.of(epochs=2)`.

        Raises:
            BadConfig: a setting is unknown or impossible.
        """
        return cls().replace(**settings)

    def replace(self, /, **settings: Any) -> StudentConfig:
        """This config with some settings changed, by name."""
        return changed(self, settings, what="settings of a student")

    @property
    def values(self) -> dict[str, Any]:
        """Every setting by name."""
        return values_of(self)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what is learned, by name; a resumed run may change the rest."""
        table = settings_of(StudentConfig)
        return {name: value for name, value in self.values.items() if table[name].identity}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, in groups; `from_dict` reads it back."""
        return asdict(self, dict_factory=_listed)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudentConfig:
        """Config from its `to_dict` form, or from that of an earlier version.

        Raises:
            BadConfig: a setting is unknown or impossible.
        """
        return cls.of(**read_settings(lifted(values)))


def _listed(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names and values as JSON has them, which knows no tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}


def read_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name from how JSON or YAML has them: in groups or by name alone.

    Those of a name that there is not are left as they are, for the config to refuse.
    """
    table = settings_of(StudentConfig)
    return {
        str(name): read(table[name].kind, value) if name in table else value
        for name, value in ungrouped(StudentConfig, values).items()
    }


def lifted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that earlier versions wrote, under today's names; today's stay as they are.

    They were flat, had the window as a record `protocol`, and several names as one text.
    """
    given = dict(values)
    if "optimiser" in given:
        given["optimizer"] = given.pop("optimiser")
    window = given.pop("protocol", None) or {}
    given |= window if isinstance(window, Mapping) else {"protocol": window}
    return given
