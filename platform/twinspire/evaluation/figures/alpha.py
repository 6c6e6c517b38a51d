"""Fig. 7: how popular and how relevant what is retrieved is, against the share of random negatives (alpha, 4.4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from plotly.subplots import make_subplots
from pydantic import BaseModel, ConfigDict

from twinspire.evaluation.bootstrap import Estimate
from twinspire.evaluation.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import plotly.graph_objects as go

X = "share of random negatives, α"


class Curve(BaseModel):
    """One loss: for each metric an estimate at each alpha, and what changes from the first alpha to the last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    alphas: tuple[float, ...]
    metrics: dict[str, tuple[Estimate, ...]]
    change: dict[str, Estimate]


def verdict(change: Estimate) -> str:
    """A change in a word: `+4.0`, `-1.2`, or `no change` where its interval holds zero."""
    if change.value is None or change.low is None or change.high is None:
        return "not known"
    return "no change" if change.low <= 0 <= change.high else f"{change.value:+.1f}"


def draw(curves: Sequence[Curve], panels: dict[str, str], title: str, detail: str, path: Path) -> Path:
    """A panel a metric, `panels` maps it to its heading; a line a loss, with 95 % intervals."""
    figure = style.new_figure(4.1)
    axes_of = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, (metric, name) in zip(axes_of, panels.items(), strict=True):
        for row, curve in enumerate(curves):
            x, y, low, high = _points(curve, metric)
            axes.fill_between(x, low, high, color=style.colour(row), alpha=0.13, linewidth=0)
            axes.plot(
                x, y, color=style.colour(row), marker=style.MARKERS[row], markersize=5, linewidth=1.8, label=curve.name
            )
        axes.set_title(name, fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.set_xlabel(X, fontsize=style.FONT)
        axes.set_xticks(curves[0].alphas)
        axes.tick_params(labelsize=style.FONT - 0.5, colors="#555555")
        axes.grid(axis="y", color="#EEEEEE")
        axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes_of[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(curves), frameon=False, fontsize=style.FONT,
        handlelength=1.6,
    )  # fmt: skip
    style.heading(figure, title, detail)
    return style.save_png(figure, path)


def interactive(curves: Sequence[Curve], panels: dict[str, str]) -> go.Figure:
    """The picture to look closer: hover for the estimate and its interval."""
    figure = make_subplots(1, len(panels), subplot_titles=list(panels.values()), horizontal_spacing=0.06)
    for column, metric in enumerate(panels, 1):
        for row, curve in enumerate(curves):
            x, y, low, high = _points(curve, metric)
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines+markers",
                line={"color": style.colour(row)},
                marker={"symbol": style.PLOTLY_MARKERS[row], "size": 8},
                error_y={"type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low, "thickness": 1},
                name=curve.name,
                legendgroup=curve.name,
                showlegend=column == 1,
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text=X, tickvals=list(curves[0].alphas))
    figure.update_yaxes(gridcolor="#EEEEEE")
    figure.update_layout(
        height=430, plot_bgcolor="white", font_size=13, margin={"l": 40, "r": 10, "t": 50, "b": 10},
        legend={"orientation": "h", "y": -0.2},
    )  # fmt: skip
    return figure


def _points(curve: Curve, metric: str) -> tuple[Any, ...]:
    """Alphas, values, lows and highs."""
    estimates = curve.metrics[metric]
    figures = np.array([[e.value, e.low, e.high] for e in estimates], np.float64).T
    return (np.array(curve.alphas), *figures)
