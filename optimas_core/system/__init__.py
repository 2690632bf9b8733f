"""Compound systems: components, graph, spaces, configurations, examples, trajectories. Imports no other layer of ours."""

from optimas_core.system._component import (
    LOST,
    CallContext,
    CallUsage,
    Component,
    Condition,
    WorstCase,
    component,
    condition,
)
from optimas_core.system._compound import CompoundSystem, Metric
from optimas_core.system._configuration import Configuration
from optimas_core.system._examples import (
    Example,
    Split,
    checked_split,
    read_examples,
    require_columns,
    split_examples,
)
from optimas_core.system._execution import execute
from optimas_core.system._identity import code_identity
from optimas_core.system._prompt import Demonstration, Prompt
from optimas_core.system._spaces import (
    AdapterSpace,
    Choice,
    DiscreteSpace,
    ModelChoice,
    NumberGrid,
    PromptSpace,
    Space,
)
from optimas_core.system._trajectory import Step, Trajectory

__all__ = [
    "LOST",
    "AdapterSpace",
    "CallContext",
    "CallUsage",
    "Choice",
    "Component",
    "CompoundSystem",
    "Condition",
    "Configuration",
    "Demonstration",
    "DiscreteSpace",
    "Example",
    "Metric",
    "ModelChoice",
    "NumberGrid",
    "Prompt",
    "PromptSpace",
    "Space",
    "Split",
    "Step",
    "Trajectory",
    "WorstCase",
    "checked_split",
    "code_identity",
    "component",
    "condition",
    "execute",
    "read_examples",
    "require_columns",
    "split_examples",
]
