"""From a matplotlib Figure to an inline SVG that follows the page: text as text, the page's colours.

Figures are drawn with stand-in colours; `to_svg` replaces them by CSS variables, so one drawing serves light and dark.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from optimas_core.reporting._shown_text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, CARD = "#010203", "#010204", "#010205", "#010206"
BASELINE, GAIN, LOSS, DOUBT = "#010211", "#010212", "#010213", "#010214"
STEPS = ("#010220", "#010221", "#010222", "#010223", "#010224")
"""Five steps from the lowest to the highest reward."""
_VARIABLES = {
    INK: "ink", MUTED: "muted", FAINT: "rule", CARD: "card", BASELINE: "baseline", GAIN: "gain", LOSS: "loss", DOUBT: "doubt",
    **{colour: f"step-{index}" for index, colour in enumerate(STEPS)},
}  # fmt: skip
_POINTS_PER_INCH = 72
Arguments = ParamSpec("Arguments")
Drawn = TypeVar("Drawn")
_SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,  # a "$" in a user's text is a dollar sign
    "font.size": 10.5,
    "hatch.linewidth": 0.7,
    "hatch.color": LOSS,
    "axes.unicode_minus": False,
}


def drawn(function: Callable[Arguments, Drawn]) -> Callable[Arguments, Drawn]:
    """Run a figure function under our settings: matplotlib reads some of them when an artist is made."""

    @functools.wraps(function)
    def under_settings(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Drawn:
        from matplotlib import rc_context

        with rc_context(_SETTINGS):
            return function(*args, **kwargs)

    return under_settings


def figure(width_pt: float, height_pt: float, panels: int = 1, **settings: Any) -> tuple[Figure, list[Axes]]:
    """A Figure of its own (no pyplot, no global state) with `panels` axes beside each other."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width_pt / _POINTS_PER_INCH, height_pt / _POINTS_PER_INCH), layout="constrained")
    axes = drawing.subplots(1, panels, squeeze=False, **settings)[0]
    for one in axes:
        _plain(one)
    return drawing, list(axes)


def _plain(axes: Axes) -> None:
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(colors=MUTED, labelcolor=MUTED, width=0.7, length=3, labelsize=9.5)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.set_axisbelow(True)


def to_svg(drawing: Figure, title: str, tooltips: Mapping[str, str] | None = None) -> str:
    """The <svg> element, with `title` as its accessible name.

    `tooltips` maps the gid of an artist to the text shown on hovering it. Ids are dropped or made the figure's own, so
    that several figures may stand on one page; neither metadata nor a style sheet nor an outside address stays in.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    salt = hashlib.sha256(title.encode("utf-8", "replace")).hexdigest()[:8]
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}), warnings.catch_warnings():
        # The page's own fonts show what DejaVu Sans, used here only to measure, has no glyph for.
        warnings.filterwarnings("ignore", message=".*Glyph .* missing from font.*")
        drawing.patch.set_visible(False)
        drawing.set_canvas(FigureCanvasSVG(drawing))
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(buffer.getvalue(), title, salt, tooltips or {})


def _inlined(document: str, title: str, salt: str, tooltips: Mapping[str, str]) -> str:
    from markupsafe import escape

    box = re.search(r'viewBox="([^"]+)"', document)
    assert box is not None  # matplotlib always writes one
    body = document[document.index(">", document.index("<svg")) + 1 : document.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]*>", lambda tag: _plain_tag(tag.group(), salt, tooltips), body)
    body = re.sub(r">\s+<", "><", body)
    width = float(box.group(1).split()[2])
    name = escape(visible(title))
    return f'<svg viewBox="{box.group(1)}" role="img" aria-label="{name}" style="--wide: {width:.0f}px"><title>{name}</title>{body}</svg>'


def _plain_tag(tag: str, salt: str, tooltips: Mapping[str, str]) -> str:
    """One tag with its own ids, the page's colours and font, and short numbers; text between tags is not touched."""
    from markupsafe import escape

    group = re.match(r'<g id="([^"]*)"', tag)
    if group:
        tip = tooltips.get(group.group(1))
        tag = "<g" + tag[group.end() :]
        return f"{tag}<title>{escape(visible(tip))}</title>" if tip is not None else tag
    tag = re.sub(r' id="([^"]+)"', rf' id="{salt}-\g<1>"', tag)
    tag = re.sub(r'(href="#|url\(#)', rf"\g<1>{salt}-", tag.replace("xlink:href", "href"))
    tag = re.sub(r"font-family: [^;\"]*(?:; )?", "", tag)
    tag = re.sub(r"font: (?:bold |\d+ )?([\d.]+)px [^;\"]+", lambda font: _font(font.group(), font.group(1)), tag)
    for colour, name in _VARIABLES.items():
        tag = tag.replace(colour, f"var(--{name})")
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)


def _font(declaration: str, size_px: str) -> str:
    """Size and weight only: the family is the page's."""
    heavy = "; font-weight: 600" if re.match(r"font: (?:bold|[6-9]00) ", declaration) else ""
    return f"font-size: {size_px}px{heavy}"


def reference_line(axes: Axes, value: float, text: str) -> None:
    """A dotted line across the panel, named at its right end (chance, majority)."""
    axes.axhline(value, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.annotate(
        text, xy=(1, value), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        ha="left", va="center", color=MUTED, fontsize=9.5,
    )  # fmt: skip


def error_bars(mean: float, ci: Sequence[float | None] | None) -> list[list[float]] | None:
    """Distances below and above `mean` for Axes.errorbar (which scales (2, 1)), or None without an interval."""
    if ci is None or ci[0] is None or ci[1] is None:
        return None
    return [[max(0.0, mean - ci[0])], [max(0.0, ci[1] - mean)]]
