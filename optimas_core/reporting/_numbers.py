"""Figures as words: one place that decides digits, signs, units and what an absent figure is called.

Plain text is ASCII, so that a terminal and a log show what the page shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOT_REPORTED = "not reported"
Number = float | int | None


def score(value: Number) -> str:
    """A metric value: two decimals without the leading zero (`.38`); four significant digits beyond +-10."""
    if value is None or not math.isfinite(value):
        return NOT_REPORTED
    if abs(value) >= 10:
        return f"{value:.4g}"
    text = f"{value:.2f}"
    if float(text) == 0:
        return ".00"
    return text.replace("0.", ".", 1) if abs(value) < 1 and abs(float(text)) < 1 else text


def signed(value: Number) -> str:
    """A difference: `+.27`, `-.03`, `.00`."""
    text = score(value)
    return f"+{text}" if value is not None and text[0] in ".0123456789" and text != ".00" else text


def interval(ci: Sequence[Number] | None, *, differences: bool = False) -> str:
    """`.31 to .45`, or `+.17 to +.37` for a difference."""
    if ci is None or len(ci) != 2 or ci[0] is None or ci[1] is None:
        return NOT_REPORTED
    shown = signed if differences else score
    return f"{shown(ci[0])} to {shown(ci[1])}"


def includes_zero(ci: Sequence[Number] | None) -> bool:
    """Whether a reported interval holds 0; False for one that is not reported."""
    return ci is not None and ci[0] is not None and ci[1] is not None and ci[0] <= 0 <= ci[1]


def percent(share: Number) -> str:
    """`95 %` of .95."""
    return NOT_REPORTED if share is None else f"{100 * share:.4g} %"


def count(value: Number) -> str:
    """A count with separators; equivalent system runs may be fractions (`411.8`)."""
    if value is None or not math.isfinite(value):
        return NOT_REPORTED
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.1f}"


def usd(value: Number) -> str:
    """`USD 0.42`; a small sum keeps its digits; None is not reported, never 0."""
    if value is None or not math.isfinite(value):
        return f"USD {NOT_REPORTED}"
    if 0 < abs(value) < 0.01:
        return f"USD {value:.2g}" if abs(value) >= 0.0001 else "USD <0.0001"
    return f"USD {value:,.2f}"


def hours(value: Number) -> str:
    """`6 min`, `3.4 h`."""
    if value is None or not math.isfinite(value):
        return NOT_REPORTED
    if value < 1:
        return f"{60 * value:.0f} min" if value >= 1 / 60 else f"{3600 * value:.0f} s"
    return f"{value:.1f} h"


def seconds(value: Number) -> str:
    """A duration given in seconds."""
    if value is None or not math.isfinite(value):
        return NOT_REPORTED
    return f"{value:.1f} s" if value < 60 else hours(value / 3600)


def estimate(part: Mapping[str, Any], *, differences: bool = False) -> str:
    """`.38 (.31 to .45, n = 80)` of a {mean, ci, n}."""
    if part.get("mean") is None:
        return NOT_REPORTED
    shown = signed if differences else score
    return f"{shown(part['mean'])} ({interval(part.get('ci'), differences=differences)}, n = {count(part.get('n'))})"
