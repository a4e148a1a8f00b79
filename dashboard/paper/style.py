"""Width, type, colours and bytes of a figure for a paper.

Matplotlib keeps its settings for the whole process, and pages draw in threads: figures are made and written under
:func:`in_style` alone.
"""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, nearest
from bench.text import visible
from dashboard.theme import GREY, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTHS = {"column": 3.3, "page": 6.9}
"""Inches of one column, and of both, of the usual two-column papers."""

MM = 25.4
NARROWEST, WIDEST = 50.0, 400.0
"""Millimetres of a figure."""

TALLEST = 9.2
"""Inches that a page of a paper has for a figure."""

POINTS = 8
SMALL = 7
FORMATS = ("pdf", "svg", "png")
DPI = 300
INK, PAPER = "#1A1A1A", "white"
PALE = 0.45
"""Opacity of what has no rank or no verdict."""

_STYLE: dict[str, Any] = {
    "font.size": POINTS,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib and has the signs of boards
    "axes.titlesize": POINTS,
    "axes.titlelocation": "left",
    "axes.labelsize": POINTS,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": POINTS,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.unicode_minus": True,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "datafree-bench",
    "path.simplify": False,
}

_UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
_ONE_AT_A_TIME = threading.RLock()


def width_of(text: str) -> float:
    """Inches of ``column``, ``page`` or a number of millimetres (``120`` or ``120mm``).

    Raises:
        BenchError: neither, or too narrow or wide to draw in.
    """
    if text in WIDTHS:
        return WIDTHS[text]
    allowed = (*WIDTHS, f"{NARROWEST:.0f} to {WIDEST:.0f} (mm)")
    try:
        millimetres = float(text.strip().removesuffix("mm"))
    except ValueError:
        raise BenchError(
            "no width of a figure", where="--width", got=text, expected=allowed, nearest=nearest(text, tuple(WIDTHS))
        ) from None
    if not NARROWEST <= millimetres <= WIDEST:
        raise BenchError("a figure of that width cannot be read", where="--width", got=text, expected=allowed)
    return millimetres / MM


@contextmanager
def in_style() -> Iterator[None]:
    """Matplotlib's defaults with what papers ask for, whatever the user's own settings are."""
    import matplotlib.style

    with _ONE_AT_A_TIME, matplotlib.style.context(["default", _STYLE]):
        yield


def sheet(width: float, height: float) -> Figure:
    """An empty figure in inches that keeps its size however long the names in it are."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.04)
    return Figure(figsize=(width, height), layout=layout, facecolor=PAPER)


def to_bytes(figure: Figure, form: str) -> bytes:
    """The figure as a file of one of :data:`FORMATS`, its text as text, without a date: equal figures, equal bytes.

    Raises:
        BenchError: no such format.
    """
    if form not in FORMATS:
        raise BenchError("a figure is PDF, SVG or PNG", got=form, expected=FORMATS, nearest=nearest(form, FORMATS))
    buffer = io.BytesIO()
    with in_style():
        figure.savefig(buffer, format=form, metadata=_UNDATED[form], facecolor=PAPER)
    return buffer.getvalue()


def colour(i: int) -> str:
    """The ``i``-th of the palette that colour-blind readers tell apart, from the start again after the last."""
    return PALETTE[i % len(PALETTE)]


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
CONTROL: dict[str, Any] = {"marker": "D", "color": GREY}
"""How a control looks: a grey diamond, filled for the upper one."""


def wrapped(name: str, width: int) -> str:
    """A name on several lines, broken at its blanks; within a word only where that alone is wider than the room."""
    return "\n".join(textwrap.wrap(visible(name), width, break_on_hyphens=False)) or ""


def names_width(inches: float) -> int:
    """Characters of a name at the left of a figure of that width, which leaves it half."""
    return max(16, round(inches * 0.42 / 0.062))


def room_of(names: Sequence[Sequence[str]]) -> float:
    """Inches that the longest line of all names takes."""
    return 0.062 * max((len(line) for own in names for name in own for line in name.split("\n")), default=0) + 0.1


def lines_height(names: Sequence[str], line: float = 0.125, pad: float = 0.055) -> float:
    """Inches that names of one or several lines take below each other."""
    return sum(line * (name.count("\n") + 1) + pad for name in names)


def places(names: Sequence[str]) -> tuple[list[float], float]:
    """The centre of each name, from the top, so that those of several lines have room; and how far down all reach."""
    found, top = [], 0.0
    for name in names:
        tall = 1 + 0.7 * name.count("\n")
        found.append(top + tall / 2)
        top += tall
    return found, top


def rows_axis(axes: Axes, names: Sequence[str]) -> list[float]:
    """Give the axes a line per name, the first on top; answers where they are."""
    at, bottom = places(names)
    axes.set_yticks(at, labels=list(names))
    axes.set_ylim(bottom, 0.0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)
    return at


def span(values: Sequence[float], pad: float = 0.06) -> tuple[float, float]:
    """Ends of an axis that holds ``values`` with a little room."""
    low, high = min(values), max(values)
    room = (high - low or 1.0) * pad
    return low - room, high + room


FAR = 0.6
"""How far, in parts of what the methods span, a control may stretch the axis; one farther off stands at its edge."""


def reach(methods: Sequence[float], controls: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Ends of an axis for the values of methods, and for those controls (value, ends of its interval) that are near."""
    shown = list(methods) or [value for control in controls for value in control]
    low, high = min(shown), max(shown)
    far = FAR * (high - low or 1.0)
    near = [control for control in controls if control and low - far <= control[0] <= high + far]
    return span([*shown, *(value for control in near for value in control)])


def title(axes: Axes, text: str, inches: float) -> None:
    """A panel's title on as many lines as the width of its axes asks for."""
    axes.set_title(wrapped(text, max(18, round(inches / 0.062))))


def title_height(text: str, inches: float) -> float:
    """Inches of a panel's title."""
    return 0.06 + 0.135 * (1 + wrapped(text, max(18, round(inches / 0.062))).count("\n"))


def ticks(axes: Axes, inches: float) -> None:
    """As many ticks along x as ``inches`` hold without running into each other."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(max(2, min(5, int(inches / 0.42)))))
