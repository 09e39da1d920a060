"""Data pipelines that survive failure: Dagster assets as Delta tables that are written exactly once."""

from pipeline_assets.errors import PermanentError, PipelineAssetsError, TransientError
from pipeline_assets.io.merge_config import MergeConfig, MergeOperationsConfig, MergeType, SchemaMode, WriteMode
from pipeline_assets.io_manager import DeltaCheckpointIOManager
from pipeline_assets.policy.fingerprints import files_fingerprint
from pipeline_assets.recovery.on_failure import on_failure
from pipeline_assets.stage import stage

__all__ = [
    "DeltaCheckpointIOManager",
    "MergeConfig",
    "MergeOperationsConfig",
    "MergeType",
    "PermanentError",
    "PipelineAssetsError",
    "SchemaMode",
    "TransientError",
    "WriteMode",
    "files_fingerprint",
    "on_failure",
    "stage",
]
