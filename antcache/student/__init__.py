"""The student: heads that anticipate the next action from windows, and their training.

`train` is the way in, `StudentConfig` says what is trained and how. Windows themselves are made by
`antcache.windows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.student.config import RuntimeConfig, StudentConfig
    from antcache.student.handing.exporting import ExportReport, export_student
    from antcache.student.heads.config import ModelConfig
    from antcache.student.heads.head import Head, HeadOutput, ModelShape
    from antcache.student.presets import PRESETS, find_preset
    from antcache.student.runs.kept import KeptStream, KeptStudent
    from antcache.student.runs.predicting import TrainedStudent
    from antcache.student.runs.train import RunResult, train
    from antcache.student.sweeps.plan import Sweep, read_plan
    from antcache.student.sweeps.run import sweep
    from antcache.student.training.data_config import DataConfig
    from antcache.student.training.objective_config import DistillationConfig, LossConfig
    from antcache.student.training.optimization_config import OptimizationConfig, SelectionConfig

__all__ = [
    "PRESETS",
    "DataConfig",
    "DistillationConfig",
    "ExportReport",
    "Head",
    "HeadOutput",
    "KeptStream",
    "KeptStudent",
    "LossConfig",
    "ModelConfig",
    "ModelShape",
    "OptimizationConfig",
    "RunResult",
    "RuntimeConfig",
    "SelectionConfig",
    "StudentConfig",
    "Sweep",
    "TrainedStudent",
    "export_student",
    "find_preset",
    "read_plan",
    "sweep",
    "train",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "config": "RuntimeConfig StudentConfig",
        "handing.exporting": "ExportReport export_student",
        "heads.config": "ModelConfig",
        "heads.head": "Head HeadOutput ModelShape",
        "presets": "PRESETS find_preset",
        "runs.kept": "KeptStream KeptStudent",
        "runs.predicting": "TrainedStudent",
        "runs.train": "RunResult train",
        "sweeps.plan": "Sweep read_plan",
        "sweeps.run": "sweep",
        "training.data_config": "DataConfig",
        "training.objective_config": "DistillationConfig LossConfig",
        "training.optimization_config": "OptimizationConfig SelectionConfig",
    },
)
