"""The two tables as Markdown, each row with a plain word on whether the LRF wins there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from _alignment.fits import MEASURED, RANDOM, Row
from _alignment.orders import PAPER, PROPOSALS_FIRST, RACING, OrderRow

ALIGNMENT_HEAD = "| system | component | candidates | rung, loss | pairwise accuracy | Spearman | regret | the LRF |"
ORDERS_HEAD = (
    "| system | component | fresh | order | system runs | reward reached | incumbent, best | share of the gain | against racing | the LRF |"
)
_SE = 2.0


def rule(head: str) -> str:
    return "|" + "---|" * (head.count("|") - 1)


def alignment_lines(rows: Sequence[Row]) -> list[str]:
    """Lines of one component's rows; those of an LRF are held against the rules without one on the same seeds."""
    known = {(row.candidates, row.rung): row for row in rows if row.rung in (MEASURED, RANDOM)}
    lines = []
    for row in rows:
        name = row.rung if not row.loss else f"{row.rung}, {row.loss}"
        word = verdict(row, known[row.candidates, MEASURED], known[row.candidates, RANDOM]) if row.loss else ""
        lines.append(
            f"| {row.system} | {row.component} | {row.candidates} | {name} | {_spread(row, 'accuracy')} | {_spread(row, 'spearman')} "
            f"| {_spread(row, 'regret')} | {word} |"
        )
    return lines


def verdict(row: Row, measured: Row, random_choice: Row) -> str:
    """Wins, loses or no difference in regret against the rule without an LRF, seed by seed; and whether it beats random choice."""
    mean, error = _paired(row, measured)
    if math.isnan(mean):
        return "undefined: the candidates are equally good"
    against_random, random_error = _paired(row, random_choice)
    lost = against_random > -_SE * random_error
    if mean < -_SE * error:
        word = f"WINS: {-mean:.2f} less regret than measured means"
    elif mean > _SE * error:
        word = f"DOES NOT WIN: {mean:.2f} more regret than measured means"
    else:
        word = f"DOES NOT WIN: no difference from measured means ({mean:+.2f})"
    return word + ("; no better than random choice" if lost else "")


def order_lines(rows: Sequence[OrderRow]) -> list[str]:
    """Lines of the arms of one component and one size."""
    arms = {row.arm: row for row in rows}
    lines = []
    for row in rows:
        against, word = "", ""
        if row.arm != RACING:
            mean, error = row.difference(arms[RACING])
            against = f"{mean:+.3f} ({error:.3f})"
            word = _order_word(mean, error)
        share = row.gain_share
        lines.append(
            f"| {row.system} | {row.component} | {row.fresh} | {row.arm} | {row.system_runs:.1f} | {row.reward:.3f} "
            f"| {row.incumbent:.3f}, {row.best:.3f} | {'no gain to be had' if share is None else f'{share:.0%}'} | {against} | {word} |"
        )
    return lines


def closing(rows: Sequence[OrderRow]) -> str:
    """One sentence over all components and sizes."""
    counts = {arm: {"wins": 0, "loses": 0, "no difference": 0} for arm in (PROPOSALS_FIRST, PAPER)}
    racing = {(row.system, row.component, row.fresh, row.loss): row for row in rows if row.arm == RACING}
    for row in rows:
        if row.arm != RACING:
            mean, error = row.difference(racing[row.system, row.component, row.fresh, row.loss])
            counts[row.arm][_order_kind(mean, error)] += 1
    said = [f"{arm} wins {c['wins']}, loses {c['loses']}, makes no difference {c['no difference']} times" for arm, c in counts.items()]
    return f"Against racing without an LRF at equal system runs: {'; '.join(said)}."


def _order_kind(mean: float, error: float) -> str:
    return "wins" if mean > _SE * error else "loses" if mean < -_SE * error else "no difference"


def _order_word(mean: float, error: float) -> str:
    kind = _order_kind(mean, error)
    return "WINS" if kind == "wins" else f"DOES NOT WIN: {'racing reaches more' if kind == 'loses' else 'no difference from racing'}"


def _paired(row: Row, other: Row) -> tuple[float, float]:
    """(mean, standard error) of the difference in regret over the seeds where both are defined; NaN where there are none."""
    gaps = [
        mine.regret - theirs.regret
        for mine, theirs in zip(row.scores, other.scores, strict=True)
        if mine.regret is not None and theirs.regret is not None
    ]
    if not gaps:
        return math.nan, math.nan
    mean = math.fsum(gaps) / len(gaps)
    if len(gaps) == 1:
        return mean, math.inf if mean else 0.0
    return mean, math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))


def _spread(row: Row, what: str) -> str:
    found = row.spread(what)
    if found is None:
        return ""
    mean, deviation, seeds = found
    return f"{mean:.2f} ± {deviation:.2f}" + (f" ({seeds} seeds)" if seeds < len(row.scores) else "")
