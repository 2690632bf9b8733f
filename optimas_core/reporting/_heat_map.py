"""Item by iteration: which example was answered how well, and where there is no score at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optimas_core.reporting import _figure_svg as svg
from optimas_core.reporting._figure_svg import drawn, figure, to_svg
from optimas_core.reporting._shown_text import label

if TYPE_CHECKING:
    from matplotlib.path import Path

MAX_ITEMS = 160
MAX_ROWS = 40


@drawn
def heat_map(items: Mapping[str, Any], metric_range: Sequence[float | None]) -> str | None:
    """One row a measured configuration, one column an example; at most MAX_ROWS (the last) by MAX_ITEMS (the first).

    A reward is one of five steps. Missing (hatched), a format error (cross) and not run (blank) are no rewards and look
    like none.
    """
    rows, examples = list(items["rows"])[-MAX_ROWS:], list(items["example_ids"])[:MAX_ITEMS]
    if not rows or not examples:
        return None
    kinds: dict[str, list[tuple[int, int]]] = {}
    for y, row in enumerate(rows):
        cells = zip(row["rewards"], row["statuses"], strict=True)
        for x, (reward, status) in enumerate(list(cells)[: len(examples)]):
            kinds.setdefault(cell_kind(reward, status, metric_range), []).append((x, y))
    drawing, (axes,) = figure(max(420, min(900, 90 + 7 * len(examples))), 58 + 19 * len(rows))
    for kind, cells_of_kind in sorted(kinds.items()):
        _draw(axes, kind, cells_of_kind)
    axes.set_xlim(0, len(examples))
    axes.set_ylim(len(rows), 0)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], [label(row["label"], 30) for row in rows])
    axes.tick_params(axis="y", length=0, labelcolor=svg.INK)
    axes.set_xlabel(f"{len(examples)} examples, in the order of the split")
    axes.set_xticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return to_svg(drawing, "Reward of every example in every measured configuration")


def cell_kind(reward: float | None, status: str, metric_range: Sequence[float | None]) -> str:
    """One of `step-0` (lowest fifth of the metric's range) to `step-4`, `missing`, `format_error`, `not_run`."""
    if status == "format_error":
        return "format_error"
    if status == "not_run":
        return "not_run"
    if status != "ok" or reward is None:
        return "missing"
    low, high = metric_range[0] or 0.0, metric_range[1] if metric_range[1] is not None else 1.0
    share = (reward - low) / (high - low) if high > low else 0.0
    return f"step-{min(4, max(0, int(share * 5)))}"


def _draw(axes: Any, kind: str, cells: Sequence[tuple[int, int]]) -> None:
    """All cells of a kind as one path: a page with ten thousand elements would be slow."""
    from matplotlib.patches import PathPatch

    if kind == "not_run":
        return
    if kind.startswith("step-"):
        axes.add_patch(PathPatch(_squares(cells), facecolor=svg.STEPS[int(kind[-1])], linewidth=0))
    elif kind == "missing":
        axes.add_patch(PathPatch(_squares(cells), facecolor="none", edgecolor=svg.LOSS, linewidth=0, hatch="//////"))
    else:
        axes.add_patch(PathPatch(_crosses(cells), facecolor="none", edgecolor=svg.LOSS, linewidth=1.3))


def _squares(cells: Sequence[tuple[int, int]]) -> Path:
    from matplotlib.path import Path

    vertices: list[tuple[float, float]] = []
    for x, y in cells:
        left, right, top, bottom = x + 0.04, x + 0.96, y + 0.06, y + 0.94
        vertices += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    corner = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(vertices, corner * len(cells))


def _crosses(cells: Sequence[tuple[int, int]]) -> Path:
    from matplotlib.path import Path

    vertices: list[tuple[float, float]] = []
    for x, y in cells:
        vertices += [(x + 0.2, y + 0.25), (x + 0.8, y + 0.75), (x + 0.2, y + 0.75), (x + 0.8, y + 0.25)]
    return Path(vertices, [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO] * len(cells))
