"""Preference data: candidate outputs on frozen inputs, downstream rollouts with racing, labels."""

from optimas_core.preferences._candidates import INCUMBENT, Candidate, Variant, distinct, variants
from optimas_core.preferences._collect import Collected, InputRecord, collect, frozen_input
from optimas_core.preferences._labelling import LabelledPair, ScoredCandidate, label_pairs, standard_error
from optimas_core.preferences._racing import undecided

__all__ = [
    "INCUMBENT",
    "Candidate",
    "Collected",
    "InputRecord",
    "LabelledPair",
    "ScoredCandidate",
    "Variant",
    "collect",
    "distinct",
    "frozen_input",
    "label_pairs",
    "standard_error",
    "undecided",
    "variants",
]
