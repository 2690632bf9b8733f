"""The five stages of a run: plain functions of a context and a request. A stage whose manifest exists does nothing."""

from optimas_core.stages._context import NotCommitted, Progress, StageContext, no_progress
from optimas_core.stages._data import lies_elsewhere
from optimas_core.stages._drift import DriftRequest, drift_check, drift_decision, read_drift
from optimas_core.stages._generate_preferences import (
    PreferenceRequest,
    ProposeRequest,
    generate_preferences,
    make_proposals,
    read_proposals,
)
from optimas_core.stages._local_optimize import OptimizeRequest, local_optimize, read_ranking
from optimas_core.stages._lrf import AdaptRequest, TrainRequest, adapt_lrf, held_out_ids, read_metrics, train_lrf
from optimas_core.stages._open import Project, check_backbone, check_models, load_project, open_run, renewed_project, reopen_project
from optimas_core.stages._preference_tables import Measured, read_measured, read_pairs
from optimas_core.stages._shards import MAX_SHARDS, Shard, measure_shard
from optimas_core.stages._validate_accept import (
    TestRequest,
    ValidateRequest,
    read_decision,
    sealed_test,
    validate_accept,
    validation_order,
)

__all__ = [
    "MAX_SHARDS",
    "AdaptRequest",
    "DriftRequest",
    "Measured",
    "NotCommitted",
    "OptimizeRequest",
    "PreferenceRequest",
    "Progress",
    "Project",
    "ProposeRequest",
    "Shard",
    "StageContext",
    "TestRequest",
    "TrainRequest",
    "ValidateRequest",
    "adapt_lrf",
    "check_backbone",
    "check_models",
    "drift_check",
    "drift_decision",
    "generate_preferences",
    "held_out_ids",
    "lies_elsewhere",
    "load_project",
    "local_optimize",
    "make_proposals",
    "measure_shard",
    "no_progress",
    "open_run",
    "read_decision",
    "read_drift",
    "read_measured",
    "read_metrics",
    "read_pairs",
    "read_proposals",
    "read_ranking",
    "renewed_project",
    "reopen_project",
    "sealed_test",
    "train_lrf",
    "validate_accept",
    "validation_order",
]
