"""The run spec: what run.yaml may say, and how it is read and frozen."""

from optimas_core.spec._load import freeze, load_run_settings
from optimas_core.spec._settings import (
    AcceptanceSettings,
    BudgetSettings,
    DataSettings,
    DriftSettings,
    GainSelection,
    LrfSettings,
    OptimizerSettings,
    PairedSequentialAcceptance,
    PreferenceSettings,
    PriceSettings,
    RoundRobinSelection,
    RunSettings,
    ScheduleSettings,
    SplitSettings,
    StrictAcceptance,
    UniformSelection,
    WarmStart,
)

__all__ = [
    "AcceptanceSettings",
    "BudgetSettings",
    "DataSettings",
    "DriftSettings",
    "GainSelection",
    "LrfSettings",
    "OptimizerSettings",
    "PairedSequentialAcceptance",
    "PreferenceSettings",
    "PriceSettings",
    "RoundRobinSelection",
    "RunSettings",
    "ScheduleSettings",
    "SplitSettings",
    "StrictAcceptance",
    "UniformSelection",
    "WarmStart",
    "freeze",
    "load_run_settings",
]
