"""What the index was chosen and tuned by: recall against the cost of a query, of everything that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from plotly.subplots import make_subplots

from twinspire.evaluation.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import plotly.graph_objects as go

    from twinspire.index.tune import Measured

X, Y = "processor ms a query", "recall@K against exact search"
SHOWN_BELOW_TARGET = 0.2
MANY = 3  # panels, which are narrow
SHORT = 8  # letters of a name, of which five stand side by side


@dataclass(frozen=True)
class Panel:
    """One comparison: a name and its points, the cheapest first, for each line; and which of them is served."""

    title: str
    lines: dict[str, list[Measured]]
    chosen: Measured | None = None


@dataclass(frozen=True)
class RecallChart:
    """All that was measured: kinds of index on a sample, if several were tried, and the chosen one's settings for each
    K that it was tuned for."""

    panels: tuple[Panel, ...]
    chosen: Measured
    target: float

    @property
    def title(self) -> str:
        """The finding."""
        one = self.chosen
        return f"Recall@{one.k} {one.recall:.3f} for {one.ms:.2f} ms a query: {one.factory}"

    @property
    def detail(self) -> str:
        """How to read the picture."""
        served = "; ".join(panel.chosen.parameters for panel in self.panels if panel.chosen)
        return f"One core, by candidates compared exactly; dashed: target; star: served, {served}"

    @property
    def floor(self) -> float:
        """Where the picture begins: every line is seen, but not each low recall."""
        best = [max(one.recall for one in line) for panel in self.panels for line in panel.lines.values()]
        return max(min(self.target - SHOWN_BELOW_TARGET, *(recall - 0.05 for recall in best)), 0)


def recall_chart(curve: Sequence[Measured], target: float) -> RecallChart | None:
    """The chart of a manifest's `curve`; None where nothing was tuned."""
    chosen = next((one for one in curve if one.chosen), None)
    if chosen is None:
        return None
    tried, final = ([one for one in curve if one.trial is trial] for trial in (True, False))
    panels = []
    if tried:
        by_factory = _grouped(tried, [one.factory for one in tried])
        panels.append(Panel(f"Kinds, on {tried[0].items:,} items", by_factory))
    final.sort(key=_factor)
    for k in sorted({one.k for one in final}):
        points = [one for one in final if one.k == k]
        by_factor = _grouped(points, [f"{_factor(one):g} K" for one in points])
        served = next((one for one in points if one.chosen), None)
        panels.append(Panel(f"{chosen.items:,} items, K = {k:,}", by_factor, served))
    return RecallChart(tuple(panels), chosen, target)


def _factor(one: Measured) -> float:
    return float(one.parameters.rpartition("refine=")[2] or 0)


def _grouped(points: Sequence[Measured], names: list[str]) -> dict[str, list[Measured]]:
    lines: dict[str, list[Measured]] = {}
    for point, name in sorted(zip(points, names, strict=True), key=lambda pair: pair[0].ms):
        line = lines.setdefault(name, [])
        if not line or point.recall > line[-1].recall:  # what costs more and finds less is of no use
            line.append(point)
    return {name: lines[name] for name in dict.fromkeys(names)}


def draw(chart: RecallChart, path: Path) -> Path:
    """The picture as a PNG."""
    figure = style.new_figure(4.6)
    panels = figure.subplots(1, len(chart.panels), squeeze=False)[0]
    for axes, panel in zip(panels, chart.panels, strict=True):
        for row, (name, line) in enumerate(panel.lines.items()):
            marker = style.MARKERS[row % len(style.MARKERS)]
            x, y = [one.ms for one in line], [one.recall for one in line]
            axes.plot(x, y, color=style.colour(row), marker=marker, markersize=4, linewidth=1.6, label=name)
        if panel.chosen:
            axes.plot(panel.chosen.ms, panel.chosen.recall, "*", color=style.INK, markersize=13, zorder=4)
        axes.axhline(chart.target, color=style.OTHER, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(chart.floor, 1.005)
        axes.set_title(panel.title, fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.set_xlabel(X, fontsize=style.FONT)
        axes.tick_params(labelsize=style.FONT - 0.5, colors="#555555")
        axes.grid(color="#EEEEEE")
        axes.spines[["top", "right"]].set_visible(False)
        columns = 5 if len(panels) < MANY else 3
        axes.legend(
            frameon=False, fontsize=style.FONT - 0.5, handlelength=1.4, columnspacing=1.2, loc="upper center",
            bbox_to_anchor=(0.5, -0.16), ncols=2 if any(len(name) > SHORT for name in panel.lines) else columns,
        )  # fmt: skip
    panels[0].set_ylabel(Y, fontsize=style.FONT)
    style.heading(figure, chart.title, chart.detail)
    return style.save_png(figure, path)


def interactive(chart: RecallChart) -> go.Figure:
    """The picture to look closer: hover for the parameters."""
    figure = make_subplots(1, len(chart.panels), subplot_titles=[panel.title for panel in chart.panels])
    for column, panel in enumerate(chart.panels, 1):
        for row, (name, line) in enumerate(panel.lines.items()):
            figure.add_scatter(
                x=[one.ms for one in line],
                y=[one.recall for one in line],
                text=[one.parameters for one in line],
                hovertemplate="%{text}: %{y:.3f}, %{x:.3f} ms",
                mode="lines+markers",
                line={"color": style.colour(row)},
                name=name,
                row=1,
                col=column,
            )
        figure.add_hline(y=chart.target, line_dash="dash", line_color=style.OTHER, row=1, col=column)
    figure.update_xaxes(type="log", title_text=X)
    figure.update_yaxes(title_text=Y, gridcolor="#EEEEEE", range=[chart.floor, 1.005])
    figure.update_layout(height=460, plot_bgcolor="white", font_size=13, margin={"l": 40, "r": 10, "t": 50, "b": 10})
    return figure
