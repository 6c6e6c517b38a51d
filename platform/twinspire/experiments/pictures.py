"""The pictures of a report, to hover over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from twinspire.evaluation.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from twinspire.experiments.moments import Array
    from twinspire.experiments.report import Comparison, Facts, GuardLine, Report

BETTER, WORSE, OPEN = "#00805E", "#C44601", "#6B7280"
GRID, ZERO = "#EEF0F3", "#9AA1AB"
SURE = 3.29  # standard errors: the sample ratio's alarm, p < 0.001
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#374151"}


def over_time(report: Report, arm: str) -> go.Figure | None:
    """Lift of each metric by look, with its always-valid interval; None where nothing could be compared yet."""
    found = [one for one in report.comparisons if one.arm == arm and one.curve]
    if not found:
        return None
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=[one.title for one in found], horizontal_spacing=0.1,
        vertical_spacing=0.34 / rows,
    )  # fmt: skip
    for number, one in enumerate(found):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        band(figure, _curve(one), tone_of(one), place)
    figure.update_yaxes(ticksuffix=" %", gridcolor=GRID, zeroline=True, zerolinecolor=ZERO, zerolinewidth=1.5)
    figure.update_xaxes(showgrid=False, tickformat=ticks(report))
    _left_titles(figure)
    return styled(figure, 40 + 250 * rows)


def _curve(one: Comparison) -> Curve:
    values = [(point.lift, point.low, point.high) for point in one.curve]
    return Curve([point.time for point in one.curve], *np.array(values).T)


@dataclass(frozen=True)
class Curve:
    """A share by look, and its interval."""

    times: Sequence[datetime]
    value: Array
    low: Array
    high: Array


def band(
    figure: go.Figure, curve: Curve, tone: str, place: dict[str, Any], *, centre: float = 0.0, sign: str = "+"
) -> None:
    """A line in a band; the axis reaches as far above `centre` as below."""
    value, low, high = (100 * values for values in (curve.value, curve.low, curve.high))
    place = {**place, "showlegend": False}
    edge: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(x=curve.times, y=high, **edge, **place)
    figure.add_scatter(x=curve.times, y=low, fill="tonexty", fillcolor=_pale(tone), **edge, **place)
    number = f"{sign}.1f"
    figure.add_scatter(
        x=curve.times, y=value, mode="lines+markers", line={"color": tone, "width": 2.5}, marker={"size": 6},
        customdata=np.stack([low, high], axis=-1),
        hovertemplate=(
            f"%{{y:{number}}} % (between %{{customdata[0]:{number}}} and %{{customdata[1]:{number}}})<extra></extra>"
        ),
        **place,
    )  # fmt: skip
    # The first days' intervals are wide; the picture shows where it ends, and cuts them.
    middle = len(low) // 3
    reach = 1.25 * max(float(np.max(np.abs(np.append(low[middle:], high[middle:]) - 100 * centre))), 0.1)
    at = {name: place[name] for name in ("row", "col") if name in place}
    figure.update_yaxes(range=[100 * centre - reach, 100 * centre + reach], **at)


def ticks(report: Facts) -> str:
    """How times are written below a picture."""
    return "%-d %b" if report.step_seconds >= 86400 else "%H:%M"


def slices(report: Report, arm: str) -> go.Figure:
    """A row a slice, a panel a metric: the lift and its interval."""
    found = [one for one in report.slices if one.arm == arm]
    metrics = list(dict.fromkeys(one.metric for one in found))
    names = list(dict.fromkeys(one.slice for one in found))
    titles = [next(one.title for one in found if one.metric == metric) for metric in metrics]
    figure = make_subplots(1, max(len(metrics), 1), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    for column, metric in enumerate(metrics, 1):
        everyone = next(one for one in report.comparisons if one.arm == arm and one.metric == metric)
        rows = [everyone, *(one for one in found if one.metric == metric)]
        for one in rows:
            interval = None if one.lift is None else (one.lift, one.low or 0.0, one.high or 0.0)
            whisker(
                figure, "everyone" if one is everyone else one.slice, interval, tone_of(one), {"row": 1, "col": column},
                clear=one.clear, units=sum(one.units),
            )  # fmt: skip
        figure.add_vline(x=0, line_color=ZERO, line_width=1.5, row=1, col=column)
        ends = [abs(end) for one in rows for end in (one.low, one.high) if end is not None]
        reach = 110 * min(max(ends, default=0.1), 1.0)
        figure.update_xaxes(range=[-reach, reach], row=1, col=column)
    figure.update_xaxes(ticksuffix=" %", gridcolor=GRID, zeroline=False, nticks=4, tickangle=0)
    figure.update_yaxes(categoryorder="array", categoryarray=["everyone", *names][::-1], gridcolor=GRID)
    _left_titles(figure)
    return styled(figure, 90 + 44 * (len(names) + 1))


def whisker(
    figure: go.Figure,
    name: str,
    interval: tuple[float, float, float] | None,
    tone: str,
    place: dict[str, Any],
    *,
    clear: bool,
    units: int,
    centre: float = 0.0,
    sign: str = "+",
) -> None:
    """A row with a share and its interval, or with the words that there are too few."""
    place = {**place, "showlegend": False}
    if interval is None:
        figure.add_scatter(
            x=[100 * centre], y=[name], mode="text", text=["too few"], textfont={"color": "#9AA1AB", "size": 11},
            hoverinfo="skip", **place,
        )  # fmt: skip
        return
    value, low, high = (100 * one for one in interval)
    figure.add_scatter(
        x=[value], y=[name], mode="markers", marker={"color": tone, "size": 10 if clear else 8},
        error_x={
            "type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low], "color": tone,
            "thickness": 2 if clear else 1.2, "width": 0,
        },
        customdata=[[low, high, units]],
        hovertemplate=(
            f"%{{x:{sign}.1f}} % (between %{{customdata[0]:{sign}.1f}} and %{{customdata[1]:{sign}.1f}})"
            "<br>%{customdata[2]:,} units<extra>%{y}</extra>"
        ),
        **place,
    )  # fmt: skip


def sample_ratio(report: Report) -> go.Figure:
    """Each arm's share of the units by look, and the range that chance gives."""
    figure = go.Figure()
    ratio = report.ratio
    total = np.linspace(1 / max(len(ratio.times), 1), 1, max(len(ratio.times), 1)) * max(report.units, 1)
    for row, arm in enumerate(ratio.arms):
        tone = style.colour(row)
        half = 100 * SURE * np.sqrt(arm.expected * (1 - arm.expected) / total)
        edge: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=ratio.times, y=100 * arm.expected + half, **edge)
        figure.add_scatter(
            x=ratio.times, y=100 * arm.expected - half, fill="tonexty", fillcolor="rgba(107,114,128,.10)", **edge
        )
        figure.add_scatter(
            x=ratio.times, y=[100 * share for share in ratio.shares[arm.name]], mode="lines+markers", name=arm.name,
            line={"color": tone, "width": 2.5}, marker={"size": 6},
            hovertemplate=f"{arm.name}: %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(ticksuffix=" %", gridcolor=GRID)
    figure.update_xaxes(showgrid=False, tickformat=ticks(report))
    return styled(figure, 280)


def guardrails(report: Report) -> go.Figure:
    """A panel a limit, a line an arm: the share of searches that break it, by step."""
    names = list(dict.fromkeys(guard.name for guard in report.guards))
    figure = make_subplots(
        1, len(names), subplot_titles=[_title(report, name) for name in names], horizontal_spacing=0.07
    )
    arms = [arm.name for arm in report.ratio.arms]
    for column, name in enumerate(names, 1):
        lines = [guard for guard in report.guards if guard.name == name]
        limit = 1.0 if name == "p99_ms" else 100 * lines[0].limit
        top = limit
        for guard in lines:
            shares = [None if share is None else 100 * share for share in guard.by_step]
            top = max([top, *(share for share in shares if share is not None)])
            figure.add_scatter(
                x=guard.times, y=shares, mode="lines+markers", name=guard.arm, legendgroup=guard.arm,
                showlegend=column == 1, line={"color": style.colour(arms.index(guard.arm)), "width": 2.2},
                marker={"size": 5}, hovertemplate=f"{guard.arm}: %{{y:.2f}} %<extra></extra>", row=1, col=column,
            )  # fmt: skip
        figure.add_hline(
            y=limit, line_dash="dash", line_color=WORSE, row=1, col=column, annotation_text="limit",
            annotation_position="top right", annotation_font_color=WORSE,
        )  # fmt: skip
        figure.update_yaxes(range=[0, 1.3 * top], row=1, col=column)
    figure.update_yaxes(ticksuffix=" %", gridcolor=GRID)
    figure.update_xaxes(showgrid=False, tickformat=ticks(report), nticks=4, tickangle=0)
    _left_titles(figure)
    return styled(figure, 320)


def _title(report: Report, name: str) -> str:
    lines: Sequence[GuardLine] = [guard for guard in report.guards if guard.name == name]
    return f"Slower than {lines[0].limit:g} ms" if name == "p99_ms" else {
        "empty_share": "Without results", "error_share": "Failed",
    }[name]  # fmt: skip


def tone_of(one: Comparison) -> str:
    """Green where clearly better, orange where clearly worse, else grey."""
    return OPEN if not one.clear else BETTER if one.better else WORSE


def _pale(tone: str) -> str:
    red, green, blue = (int(tone[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},.14)"


def _left_titles(figure: go.Figure) -> None:
    for note in figure.layout.annotations:
        if note.yref == "paper" and note.xref == "paper":
            note.update(font={"size": 13.5, "color": "#111827", "weight": 600})


def styled(figure: go.Figure, height: int) -> go.Figure:
    """The look of all pictures."""
    figure.update_layout(
        height=height, plot_bgcolor="white", paper_bgcolor="white", font=FONT, hovermode="closest",
        margin={"l": 10, "r": 16, "t": 36, "b": 10},
        legend={"orientation": "h", "y": -0.16, "x": 0.5, "xanchor": "center", "traceorder": "normal"},
    )  # fmt: skip
    figure.update_yaxes(automargin=True)
    return figure
