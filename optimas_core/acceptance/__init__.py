"""Acceptance: is the challenger better than the incumbent? (Algorithm 1, lines 15-20)

Two gates behind one Protocol: the paper's strict rule and the default, a paired sequential test whose false-accept
probability is bounded over a whole run. docs/design/0002-gate.md says why it is built as it is.
"""

from optimas_core.acceptance._drift import Movement, movement, partners
from optimas_core.acceptance._gate import Gate, gate_for
from optimas_core.acceptance._intervals import Interval, mean_interval, paired_difference_interval
from optimas_core.acceptance._paired_sequential import PairedSequentialGate
from optimas_core.acceptance._spending import TestedLevel, charged_level, next_level
from optimas_core.acceptance._strict import StrictGate
from optimas_core.acceptance._verdict import Decision, ScorePair, Verdict

__all__ = [
    "Decision",
    "Gate",
    "Interval",
    "Movement",
    "PairedSequentialGate",
    "ScorePair",
    "StrictGate",
    "TestedLevel",
    "Verdict",
    "charged_level",
    "gate_for",
    "mean_interval",
    "movement",
    "next_level",
    "paired_difference_interval",
    "partners",
]
