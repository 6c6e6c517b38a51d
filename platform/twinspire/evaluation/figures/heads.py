"""Fig. 6: where the results of each head of a query lie among the items of the categories that any head finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from plotly.subplots import make_subplots

from twinspire.errors import ConfigError
from twinspire.evaluation.figures import style
from twinspire.evaluation.figures.projection import LEAST_POINTS, above, plane
from twinspire.evaluation.heads import measure_heads, top

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import plotly.graph_objects as go
    import polars as pl
    from numpy.typing import NDArray

CATEGORIES = 10  # the paper's
NAMED, NAMED_ON_MAP = 3, 8
LEAST_SHARE = 0.1  # of a head's results, for a category to be named
MANY = 2  # results of all heads together, for a category to be shown on the map
BOTH = "several heads"


@dataclass(frozen=True)
class QueryResults:
    """One query among the map's N points."""

    query: str
    found: tuple[NDArray[np.int64], ...]  # the K best of each head, best first
    described: tuple[str, ...]  # "Phones 12, Laptops 8", of each head
    overlap: float
    region: NDArray[np.int64]  # points worth looking at
    names: dict[str, NDArray[np.int64]]  # what is named on the map, and its points

    @property
    def title(self) -> str:
        """The finding."""
        if len(self.found) == 1:
            return f"“{self.query}”: one head"
        return f"“{self.query}”: {self.overlap:.0%} in common"

    @property
    def layers(self) -> list[tuple[str, NDArray[np.int64], str, str, str]]:
        """What to draw: name, points, colour, matplotlib's and plotly's marker; what several heads find is apart."""
        times = np.bincount(np.concatenate(self.found), minlength=1)
        layers = [
            (
                f"head {head + 1}: {self.described[head]}",
                rows[times[rows] == 1],
                style.colour(head),
                style.MARKERS[head % len(style.MARKERS)],
                style.PLOTLY_MARKERS[head % len(style.PLOTLY_MARKERS)],
            )
            for head, rows in enumerate(self.found)
        ]
        shared = np.flatnonzero(times > 1)
        return [*layers, (f"{BOTH}: {len(shared)} items", shared, style.INK, "D", "diamond")] if len(shared) else layers


@dataclass(frozen=True)
class HeadMap:
    """N items on a plane and the results of some queries among them."""

    points: NDArray[np.float64]  # (N, 2)
    titles: list[str]
    queries: tuple[QueryResults, ...]
    k: int

    @property
    def title(self) -> str:
        """The finding over all queries shown."""
        count = len(self.queries[0].found)
        if count == 1:
            return "One head finds everything"
        low, high = (f(query.overlap for query in self.queries) for f in (min, max))
        share = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
        return f"Each of {count} heads finds items of its own: {share} in common"

    @property
    def detail(self) -> str:
        """How to read the picture."""
        each = "the head's" if len(self.queries[0].found) == 1 else "each head's own"
        return f"Large: {each} {self.k} best items. Small: others of the same categories. By t-SNE of item vectors."


def head_map(
    queries: Mapping[str, NDArray[np.float32]],
    vectors: NDArray[np.float32],
    items: pl.DataFrame,
    labels: pl.Series,
    finer: pl.Series,
    *,
    k: int = 30,
    size: int = 1500,
    seed: int = 0,
) -> HeadMap:
    """Search `queries`, text to heads (H, D), and place what is found among the most clicked items of its categories.

    `vectors` (n, D), `items` (with `title` and `clicks`), `labels` and `finer` (n,) are the catalogue's; `finer` labels
    stand in where all heads of a query find one category. Errors: ConfigError for a catalogue too small for a picture.
    """
    k = min(k, len(vectors))
    own = {query: top(heads @ vectors.T, k) for query, heads in queries.items()}  # (H, K)
    found = np.unique(np.concatenate([rows.ravel() for rows in own.values()]))
    around = _members(labels, _frequent(labels.gather(found))[:CATEGORIES])
    around = around[np.argsort(-items["clicks"].to_numpy()[around], kind="stable")][:size]
    rows = np.union1d(found, around)
    if len(rows) < LEAST_POINTS:
        raise ConfigError(f"the catalogue's {len(vectors)} items are too few for a picture of the heads")
    labels, finer = labels.gather(rows), finer.gather(rows)
    results = []
    for text, best in own.items():
        overlap = measure_heads(queries[text][None], vectors, k).overlap
        results.append(_results(text, tuple(np.searchsorted(rows, best)), overlap, labels, finer))
    titles = items["title"].gather(rows).fill_null("").to_list()
    return HeadMap(plane(np.array(vectors[rows]), seed), titles, tuple(results), k)


def _results(
    query: str, found: tuple[NDArray[np.int64], ...], overlap: float, labels: pl.Series, finer: pl.Series
) -> QueryResults:
    every = np.concatenate(found)
    region = np.union1d(every, _members(labels, _frequent(labels.gather(every), MANY)))
    shown = labels if labels.gather(every).drop_nulls().n_unique() > 1 or not finer.count() else finer
    return QueryResults(
        query=query,
        found=found,
        described=tuple(_described(shown.gather(rows)) for rows in found),
        overlap=overlap,
        region=region.astype(np.int64),
        names={
            name: np.intersect1d(_members(shown, [name]), region)
            for name in _frequent(shown.gather(every), MANY)[:NAMED_ON_MAP]
        },
    )


def _frequent(labels: pl.Series, least: float = 1) -> list[str]:
    """Labels that occur at least so often, most frequent first."""
    counted = labels.drop_nulls().alias("label").value_counts().sort("count", "label", descending=[True, False])
    return [label for label, count in counted.iter_rows() if count >= least]


def _members(labels: pl.Series, wanted: list[str]) -> NDArray[np.int64]:
    """Rows whose label is one of these."""
    return np.asarray(labels.is_in(wanted).fill_null(value=False).arg_true(), np.int64)


def _described(labels: pl.Series) -> str:
    shown = _frequent(labels, LEAST_SHARE * len(labels))[:NAMED]
    return ", ".join(f"{label} {(labels == label).sum()}" for label in shown) or f"{len(labels)} items"


def draw(chart: HeadMap, path: Path) -> Path:
    """The picture as a PNG: a panel a query, a colour and a shape a head."""
    figure = style.new_figure(5.2)
    panels = np.atleast_1d(figure.subplots(1, len(chart.queries)))
    for axes, result in zip(panels, chart.queries, strict=True):
        style.bare(axes)
        axes.set_title(result.title, fontsize=style.FONT + 0.5, loc="left", fontweight="bold", color=style.INK)
        axes.scatter(chart.points[result.region, 0], chart.points[result.region, 1], s=4, c=style.PALE, linewidths=0)
        for name, rows, colour, marker, _ in result.layers:
            axes.scatter(
                *chart.points[rows].T, s=30, c=colour, marker=marker, alpha=0.9, linewidths=0.5, edgecolors="white",
                zorder=3, label=name,
            )  # fmt: skip
        axes.legend(
            loc="upper left", bbox_to_anchor=(-0.02, -0.005), frameon=False, fontsize=style.FONT - 0.5,
            handletextpad=0.2, labelspacing=0.3,
        )  # fmt: skip
        _name_on_map(axes, chart, result)
    style.heading(figure, chart.title, chart.detail)
    return style.save_png(figure, path)


def _name_on_map(axes: Any, chart: HeadMap, result: QueryResults) -> None:
    axes.margins(0.09)
    axes.autoscale_view()
    (left, right), (bottom, top_) = axes.get_xlim(), axes.get_ylim()
    unit = np.array([right - left, top_ - bottom])
    names = list(result.names)
    homes = np.array([above(chart.points[rows], 0.02 * unit[1]) for rows in result.names.values()]).reshape(-1, 2)
    sizes = np.array([[0.021 * len(name) + 0.02, 0.045] for name in names]).reshape(-1, 2) * unit
    for name, place in zip(names, style.spread(homes / unit, sizes / unit) * unit, strict=True):
        axes.text(
            *place, name, color="#555555", fontsize=style.FONT - 0.5, ha="center", va="center",
            path_effects=style.outlined(), zorder=4,
        )  # fmt: skip


def interactive(chart: HeadMap) -> go.Figure:
    """The picture to look closer: hover over an item for its title."""
    panels = [result.title for result in chart.queries]
    figure = make_subplots(1, len(panels), subplot_titles=panels, horizontal_spacing=0.02)
    for column, result in enumerate(chart.queries, 1):
        place = {"row": 1, "col": column}
        _scatter(figure, chart, result.region, "other items", {"size": 4, "color": style.PALE}, None, place)
        for name, rows, colour, _, symbol in result.layers:
            marker = {"size": 9, "color": colour, "symbol": symbol, "line": {"width": 0.5, "color": "white"}}
            _scatter(figure, chart, rows, name, marker, result.query, place)
        for name, rows in result.names.items():
            x, y = above(chart.points[rows])
            figure.add_annotation(x=x, y=y, text=name, showarrow=False, font_color="#555", **place)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(
        height=650, plot_bgcolor="white", font_size=13, margin={"l": 10, "r": 10, "t": 70, "b": 10},
        legend={"orientation": "h", "y": -0.02, "groupclick": "toggleitem"},
    )  # fmt: skip
    return figure


def _scatter(
    figure: go.Figure,
    chart: HeadMap,
    rows: NDArray[np.int64],
    name: str,
    marker: dict[str, Any],
    group: str | None,
    place: dict[str, int],
) -> None:
    figure.add_scattergl(
        x=chart.points[rows, 0].round(4),
        y=chart.points[rows, 1].round(4),
        mode="markers",
        marker=marker,
        text=[chart.titles[row] for row in rows],
        hovertemplate="%{text}<extra>" + name.split(":")[0] + "</extra>",
        name=name,
        legendgroup=group,
        legendgrouptitle={"text": group},
        showlegend=group is not None,
        **place,
    )
