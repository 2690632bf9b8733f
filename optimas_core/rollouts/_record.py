"""What the call store keeps of one execution of a component. A workspace may come from anyone: what is no such record counts as absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from optimas_core.system import CompoundSystem


def is_record(system: CompoundSystem, record: Mapping[str, Any]) -> bool:
    """Whether it is the whole result of one of the system's components: its outputs or its format error, and what it cost.

    A proposing model's answer belongs to no component (""); its outputs are one text.
    """
    component = record.get("component")
    if component == "":
        answered = record.get("outputs")
        return record.get("status") == "ok" and isinstance(answered, dict) and isinstance(answered.get("text"), str)
    item = system.components.get(component) if isinstance(component, str) else None
    outputs, usage = record.get("outputs"), record.get("usage")
    if item is None or not isinstance(usage, list) or not all(_is_usage(call) for call in usage):
        return False
    match record.get("status"):
        case "ok":
            return isinstance(outputs, dict) and outputs.keys() >= set(item.outputs)
        case "format_error":
            return isinstance(record.get("error"), str)
    return False


def _is_usage(call: Any) -> bool:
    if not isinstance(call, dict):
        return False
    tokens, usd = (call.get("tokens_in"), call.get("tokens_out")), call.get("usd", math.nan)
    return all(type(count) is int and 0 <= count < 2**53 for count in tokens) and (
        usd is None or (isinstance(usd, int | float) and not isinstance(usd, bool) and math.isfinite(usd) and usd >= 0)
    )
