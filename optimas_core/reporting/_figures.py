"""The report's figures, one function each: data of the report in, inline SVG out; None where there is nothing to draw.

matplotlib is imported when a figure is drawn, never when this module is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optimas_core.reporting import _figure_svg as svg
from optimas_core.reporting._figure_svg import drawn, error_bars, figure, reference_line, to_svg
from optimas_core.reporting._numbers import interval, score, signed
from optimas_core.reporting._shown_text import label

MARKS = {"accept": ("^", svg.GAIN), "reject": ("x", svg.LOSS), "indecisive": ("D", svg.DOUBT)}
"""Verdict -> (marker, colour): shape and colour both tell them apart."""


@drawn
def before_after(report: Mapping[str, Any]) -> str | None:
    """Baseline and final mean on the sealed test with their intervals; chance dotted, majority dashed."""
    arms = [(name, report[key], colour) for name, key, colour in _ARMS if report[key]["mean"] is not None]
    if not arms:
        return None
    drawing, (axes,) = figure(370, 60 + 34 * len(arms))
    for row, (_, part, colour) in enumerate(arms):
        bars = error_bars(part["mean"], part["ci"])
        axes.errorbar(part["mean"], row, xerr=bars, fmt="o", color=colour, markersize=8, elinewidth=2.4, capsize=0)
        place: dict[str, Any] = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        axes.annotate(score(part["mean"]), (part["mean"], row), color=svg.INK, fontsize=11, weight="bold", **place)
    for key in ("chance", "majority"):
        if report[key] is not None:
            axes.axvline(report[key], color=svg.MUTED, linewidth=1, linestyle=_LINES[key])
    axes.set_yticks(range(len(arms)), [name for name, _, _ in arms], color=svg.INK)
    axes.set_ylim(len(arms) - 0.5, -0.75)
    axes.tick_params(axis="y", length=0, labelsize=10.5, labelcolor=svg.INK)
    axes.spines["left"].set_visible(False)
    low, high = report["metric"]["low"], report["metric"]["high"]
    bounds = [value for _, part, _ in arms for value in (part["mean"], *(part["ci"] or ())) if value is not None]
    bounds += [report[key] for key in ("chance", "majority") if report[key] is not None]
    top = min(high, max(bounds) + 0.15 * (high - low)) if high is not None and low is not None else max(bounds)
    axes.set_xlim(min([low if low is not None else min(bounds), *bounds]) - 0.01 * abs(top), top)
    axes.set_xlabel(label(report["metric"]["name"]))
    return to_svg(drawing, "Baseline and final score on the sealed test with their confidence intervals")


_ARMS = (("baseline", "baseline", svg.BASELINE), ("final", "final", svg.GAIN))
_LINES: Mapping[str, Any] = {"chance": (0, (1, 2)), "majority": (0, (5, 3))}


@drawn
def learning_curve(report: Mapping[str, Any], over: str = "system_runs") -> str | None:
    """Validation mean of the incumbent over what was spent, and each judged proposal as a mark.

    `over`: "system_runs" or "usd". A mark stands at the challenger's validation mean.
    """
    points = [point for point in report["learning_curve"] if point["mean"] is not None and point[over] is not None]
    if not points:
        return None
    drawing, (axes,) = figure(640, 280)
    x, mean = [point[over] for point in points], [point["mean"] for point in points]
    bounds = [point["ci"] or (point["mean"], point["mean"]) for point in points]
    low, high = [pair[0] for pair in bounds], [pair[1] for pair in bounds]
    axes.fill_between(x, low, high, step="post", color=svg.BASELINE, alpha=0.16, linewidth=0)
    axes.plot(x, mean, drawstyle="steps-post", color=svg.BASELINE, linewidth=2, label="incumbent (band: interval)")
    tooltips, seen = {}, set()
    for row in report["iterations"]:
        at, judged = row["cumulative_system_runs" if over == "system_runs" else "cumulative_usd"], row["validation"]
        if at is None or judged is None or judged["challenger_mean"] is None or row["verdict"] not in MARKS:
            continue
        marker, colour = MARKS[row["verdict"]]
        name = None if row["verdict"] in seen else _VERDICT_NAMES[row["verdict"]]
        seen.add(row["verdict"])
        edge = 2 if marker == "x" else 0
        style: Mapping[str, Any] = {"markersize": 8, "markeredgewidth": edge, "linestyle": "none", "label": name}
        (artist,) = axes.plot([at], [judged["challenger_mean"]], marker=marker, color=colour, **style)
        gid = f"tip-{row['iteration']}"
        artist.set_gid(gid)
        difference = f"difference {signed(judged['difference'])} ({interval(judged['ci'], differences=True)})"
        what = f"iteration {row['iteration']}, {label(row['component'])}.{label(row['knob'])}: {row['verdict']}"
        tooltips[gid] = f"{what}; {difference}. {label(row['reason'], 200)}"
        number: Mapping[str, Any] = {"xytext": (-6, 3), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        axes.annotate(str(row["iteration"]), (at, judged["challenger_mean"]), color=svg.MUTED, fontsize=8.5, **number)
    known = {key: report[key] for key in ("chance", "majority") if report[key] is not None}
    marks = [row["validation"]["challenger_mean"] for row in report["iterations"] if row["validation"]]
    shown = [value for value in (*low, *high, *known.values(), *marks) if value is not None]
    scale = (max(shown) - min(shown)) or 1.0
    axes.set_ylim(min(shown) - 0.08 * scale, max(shown) + 0.08 * scale)
    if len(known) == 2 and abs(known["chance"] - known["majority"]) < 0.06 * scale:
        axes.axhline(known.pop("chance"), color=svg.MUTED, linewidth=0.9, linestyle=_LINES["chance"])
        reference_line(axes, known.pop("majority"), "chance,\nmajority")
    for key, value in known.items():
        reference_line(axes, value, key)
    axes.grid(axis="y", color=svg.FAINT, linewidth=0.6)
    axes.set_xlabel("system runs spent" if over == "system_runs" else "USD spent")
    axes.set_ylabel(f"{label(report['metric']['name'])}, validation")
    axes.legend(frameon=False, fontsize=9.5, labelcolor=svg.INK, loc="lower left", bbox_to_anchor=(0, 1), ncols=4,
                handletextpad=0.4, columnspacing=1.4, borderaxespad=0.2)  # fmt: skip
    return to_svg(drawing, "Learning curve: incumbent's validation score over the spend, proposals as marks", tooltips)


_VERDICT_NAMES = {"accept": "accepted", "reject": "rejected", "indecisive": "indecisive"}


@drawn
def alignment(report: Mapping[str, Any]) -> str | None:
    """Held-out pairwise accuracy of each component's local reward, first and latest, with the chance line at .5."""
    latest = {row["component"]: row["alignment"] for row in report["iterations"] if row["alignment"]}
    names = [name for name in sorted({*report["alignment_initial"], *latest}) if _known(report, latest, name)]
    if not names:
        return None
    drawing, (axes,) = figure(560, 66 + 36 * len(names))
    for row, name in enumerate(names):
        series = [("first training", report["alignment_initial"].get(name), -0.14, svg.BASELINE, "s")]
        series.append(("latest adaptation", latest.get(name), 0.14, svg.GAIN, "o"))
        for title, part, shift, colour, marker in series:
            if part is None or part["accuracy"] is None:
                continue
            fill = colour if part["trusted"] else svg.CARD
            bars = error_bars(part["accuracy"], part["ci"])
            artist = axes.errorbar(part["accuracy"], row + shift, xerr=bars, fmt=marker, color=colour, markersize=7,
                                   elinewidth=1.8, capsize=0, markerfacecolor=fill)  # fmt: skip
            if row == 0 or title not in axes.get_legend_handles_labels()[1]:
                artist.set_label(title)
    axes.axvline(0.5, color=svg.MUTED, linewidth=1, linestyle=_LINES["chance"])
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ("0", "0.25", "0.50\nchance", "0.75", "1"))
    axes.set_yticks(range(len(names)), [label(name, 28) for name in names])
    axes.tick_params(axis="y", length=0, labelsize=10.5, labelcolor=svg.INK)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.02)
    axes.set_xlabel("held-out pairwise accuracy (hollow: not trusted, did not steer)")
    axes.legend(frameon=False, fontsize=9.5, labelcolor=svg.INK, loc="lower left", ncols=2,
                bbox_to_anchor=(0, 1.0), handletextpad=0.4)  # fmt: skip
    return to_svg(drawing, "Alignment of the local rewards per component with the chance line at one half")


def _known(report: Mapping[str, Any], latest: Mapping[str, Any], name: str) -> bool:
    parts = (report["alignment_initial"].get(name), latest.get(name))
    return any(part is not None and part["accuracy"] is not None for part in parts)


@drawn
def landscape(points: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """Local reward and measured reward of each value of a discrete knob, two panels over one axis of values.

    Two panels, not two scales on one: a local reward is defined up to an additive constant, its zero means nothing.
    """
    known = [point for point in points if point["local"] is not None or point["measured"] is not None]
    if not known:
        return None
    drawing, panels = figure(460, 190, panels=2)
    series = (("local", "local reward", svg.BASELINE), ("measured", "measured", svg.GAIN))
    for axes, (key, title, colour) in zip(panels, series, strict=True):
        values = [(index, point[key]) for index, point in enumerate(known) if point[key] is not None]
        line = [math.nan if point[key] is None else point[key] for point in known]  # a gap where nothing was measured
        axes.set_title(title, fontsize=10.5, color=svg.INK, loc="left")
        axes.set_xticks(range(len(known)), [label(point["value"], 14) for point in known])
        if len(known) > 5 or max(len(label(point["value"], 14)) for point in known) > 6:
            axes.tick_params(axis="x", labelrotation=45)
        axes.set_xlim(-0.5, len(known) - 0.5)
        axes.grid(axis="y", color=svg.FAINT, linewidth=0.6)
        if not values:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=svg.MUTED)
            axes.set_yticks([])
            continue
        axes.plot(range(len(known)), line, color=colour, linewidth=1.4, marker="o", markersize=6)
        best = max(values, key=lambda pair: pair[1])
        ring: Mapping[str, Any] = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.5}
        axes.plot(*best, color=colour, **ring)
        axes.margins(y=0.2)
    return to_svg(drawing, f"Local against measured reward of the values of {label(name)}, the best ringed")
