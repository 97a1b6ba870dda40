"""Features and predictions of others into a store, and the way back; nothing below knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
    from antcache.interop.array_files.config import ArraysImportConfig
    from antcache.interop.array_files.exporting import ArraysExportReport, export_arrays
    from antcache.interop.array_files.importing import (
        ArraysPlan,
        ArraysReport,
        import_arrays,
        plan_arrays,
    )
    from antcache.interop.lmdb.exporting import LmdbExportReport, export_lmdb
    from antcache.interop.lmdb.importing import (
        LmdbImportConfig,
        StreamImport,
        import_lmdb,
        plan_lmdb,
    )
    from antcache.interop.predictions.importing import (
        PredictionsConfig,
        PredictionsReport,
        import_predictions,
    )

__all__ = [
    "ArraysExportReport",
    "ArraysImportConfig",
    "ArraysPlan",
    "ArraysReport",
    "LmdbExportReport",
    "LmdbImportConfig",
    "PredictionsConfig",
    "PredictionsReport",
    "StreamImport",
    "export_arrays",
    "export_lmdb",
    "import_arrays",
    "import_lmdb",
    "import_predictions",
    "plan_arrays",
    "plan_lmdb",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "array_files.config": "ArraysImportConfig",
        "array_files.importing": "ArraysPlan ArraysReport import_arrays plan_arrays",
        "array_files.exporting": "ArraysExportReport export_arrays",
        "lmdb.importing": "LmdbImportConfig StreamImport import_lmdb plan_lmdb",
        "lmdb.exporting": "LmdbExportReport export_lmdb",
        "predictions.importing": "PredictionsConfig PredictionsReport import_predictions",
    },
)
