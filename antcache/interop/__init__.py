"""Features and predictions of others into a store, and the way back; nothing below knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from antcache.exports import lazy_exports

if TYPE_CHECKING:
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
    "LmdbExportReport",
    "LmdbImportConfig",
    "PredictionsConfig",
    "PredictionsReport",
    "StreamImport",
    "export_lmdb",
    "import_lmdb",
    "import_predictions",
    "plan_lmdb",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "lmdb.importing": "LmdbImportConfig StreamImport import_lmdb plan_lmdb",
        "lmdb.exporting": "LmdbExportReport export_lmdb",
        "predictions.importing": "PredictionsConfig PredictionsReport import_predictions",
    },
)
