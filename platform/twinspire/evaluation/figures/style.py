"""How all pictures look: colours that colour-blind readers tell apart, type that is readable at 800 pixels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib import font_manager, patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Okabe and Ito, 2008, without its yellow, which is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A4EA3", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PLOTLY_MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
OTHER, INK, PALE = "#9A9A9A", "#222222", "#D4D4D4"
WIDTH_INCHES, DPI, PNG_COLOURS = 8.0, 160, 128
FONT = 9.0
HEADING_INCHES = 0.56


# Fonts for scripts that matplotlib's own lacks; those that a machine has are used, letter by letter.
SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "PingFang SC",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
)


def colour(number: int) -> str:
    """The colour of the n-th thing; from the ninth on grey."""
    return COLOURS[number] if number < len(COLOURS) else OTHER


def new_figure(height_inches: float) -> Figure:
    """An empty figure of README width."""
    installed = set(font_manager.get_font_names())
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", *(name for name in SCRIPTS if name in installed)]
    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def heading(figure: Figure, title: str, detail: str) -> None:
    """The finding in bold, and below it how to read the picture, in a strip of their own above it."""
    height = figure.get_figheight()
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 1, 1 - HEADING_INCHES / height))
    left: dict[str, Any] = {"x": 0.012, "ha": "left", "va": "top"}
    figure.text(y=1 - 0.08 / height, s=title, fontsize=FONT + 3, fontweight="bold", color=INK, **left)
    figure.text(y=1 - 0.32 / height, s=detail, fontsize=FONT, color="#555555", **left)


def bare(axes: Any) -> None:
    """Axes of a map: t-SNE's coordinates have no unit and no meaning."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color(PALE)


def outlined(width: float = 2.4) -> list[Any]:
    """White around letters, so that they can be read over points."""
    return [patheffects.withStroke(linewidth=width, foreground="white")]


def save_png(figure: Figure, path: Path) -> Path:
    """Write a PNG with a palette: a third of the size, and no eye sees a difference.

    A letter that no font of this machine has becomes a box; the page shows it all the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(path, facecolor="white", metadata={"Software": None})
    with Image.open(path) as image:
        reduced = image.convert("RGB").quantize(PNG_COLOURS, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
    return path


def spread(centres: NDArray[np.float64], sizes: NDArray[np.float64], rounds: int = 300) -> NDArray[np.float64]:
    """Move labels apart: centres (L, 2) of boxes with `sizes` (L, 2) to centres whose boxes overlap little or not.

    Overlapping boxes push each other along the axis on which they overlap least; a weak spring draws each home.
    """
    places = centres.astype(np.float64).copy()
    reach = (sizes[:, None] + sizes[None]) / 2  # (L, L, 2)
    for _ in range(rounds):
        apart = places[:, None] - places[None]
        overlap = reach - np.abs(apart)
        hit = np.asarray((overlap > 0).all(2))
        np.fill_diagonal(hit, val=False)
        if not hit.any():
            break
        along = overlap.argmin(2)
        push = np.where(np.arange(2) == along[:, :, None], overlap * np.where(apart >= 0, 1, -1), 0.0)
        places += 0.25 * (push * hit[:, :, None]).sum(1) + 0.02 * (centres - places)
    return places
