"""Fig. 5: the catalogue's items on a plane, each category under its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
import polars as pl

from twinspire.errors import ConfigError
from twinspire.evaluation.figures import style
from twinspire.evaluation.figures.projection import LEAST_POINTS, above, plane, purity, sample

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LEAST_OF_A_CATEGORY = 3
NEIGHBOURS = 10
SHOWN_DEPARTMENTS = len(style.COLOURS)


@dataclass(frozen=True)
class ItemMap:
    """N items on a plane. `near` is the share of an item's nearest neighbours that are of its category."""

    points: NDArray[np.float64]  # (N, 2)
    titles: list[str]
    category: NDArray[np.int64]  # (N,) rows of `categories`
    categories: list[str]
    department: NDArray[np.int64]  # (C,) rows of `departments`, -1: one of the rest
    departments: list[str]
    near: float
    by_chance: float

    @property
    def title(self) -> str:
        """The finding."""
        return f"Like lies with like: {self.near:.0%} of an item's {NEIGHBOURS} nearest neighbours share its category"

    @property
    def detail(self) -> str:
        """How to read the picture."""
        return (
            f"{len(self.points):,} items of the {len(self.categories)} largest categories, by t-SNE of the item "
            f"tower's vectors. By chance it would be {self.by_chance:.0%}."
        )


def item_map(
    vectors: NDArray[np.float32],
    titles: pl.Series,
    labels: pl.Series,
    departments: pl.Series,
    *,
    categories: int = 33,
    size: int = 5000,
    seed: int = 0,
) -> ItemMap:
    """Place a sample of the items (n, D) of the `categories` largest categories.

    `labels` and `departments` (n,) name each item's category and what it is coloured by; null: left out.
    Errors: ConfigError where too few items have a category.
    """
    largest = labels.drop_nulls().value_counts(sort=True).sort("count", labels.name, descending=[True, False])
    kept = largest.filter(pl.col("count") >= LEAST_OF_A_CATEGORY)[labels.name].head(categories).to_list()
    number = {label: row for row, label in enumerate(kept)}
    group = np.array([number.get(label, -1) for label in labels.to_list()], np.int64)
    rows = sample(group, size, seed)
    if len(rows) < LEAST_POINTS or len(kept) < 2:
        raise ConfigError(
            f"--by: found {len(kept)} categories of {LEAST_OF_A_CATEGORY} items or more, and a picture needs two; "
            "name another column or another --level"
        )
    chosen = np.array(vectors[rows])
    near, by_chance = purity(chosen, group[rows], NEIGHBOURS)
    owner, names = _departments(kept, labels, departments)
    return ItemMap(
        points=plane(chosen, seed),
        titles=titles.gather(rows).fill_null("").to_list(),
        category=group[rows],
        categories=kept,
        department=owner,
        departments=names,
        near=near,
        by_chance=by_chance,
    )


def _departments(kept: list[str], labels: pl.Series, departments: pl.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Each category's department, the most frequent one of its items; the largest have a colour each."""
    pairs = pl.DataFrame({"label": labels, "department": departments}).filter(pl.col("label").is_in(kept))
    counted = pairs.group_by("label", "department").len().sort("len", "department", descending=[True, False])
    owner = dict(counted.unique("label", keep="first", maintain_order=True).select("label", "department").iter_rows())
    names = pl.Series([owner[label] for label in kept]).value_counts(sort=True)[:, 0].to_list()[:SHOWN_DEPARTMENTS]
    number = {name: row for row, name in enumerate(names)}
    return np.array([number.get(owner[label], -1) for label in kept], np.int64), names


def draw(chart: ItemMap, path: Path) -> Path:
    """The picture as a PNG: a colour a department, each category named where it lies."""
    figure = style.new_figure(6.4)
    axes = figure.add_subplot()
    style.bare(axes)
    colours = np.array([style.colour(d) if d >= 0 else style.OTHER for d in chart.department])
    order = np.random.default_rng(0).permutation(len(chart.points))  # else the last category covers the others
    points, category = chart.points[order], chart.category[order]
    axes.scatter(points[:, 0], points[:, 1], s=7, c=colours[category], alpha=0.6, linewidths=0, rasterized=True)
    for row, name in enumerate(chart.departments):
        axes.scatter([], [], s=30, color=style.colour(row), label=name)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.005), ncols=len(chart.departments), frameon=False,
        fontsize=style.FONT, handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip
    axes.margins(0.06)
    homes = np.array([above(chart.points[chart.category == row]) for row in range(len(chart.categories))])
    sizes = np.array([[0.0245 * len(name) + 0.02, 0.062] for name in chart.categories])
    for row, (home, place) in enumerate(zip(homes, style.spread(homes, sizes), strict=True)):
        _name(axes, chart.categories[row], home, place, str(colours[row]))
    style.heading(figure, chart.title, chart.detail)
    return style.save_png(figure, path)


def _name(axes: Any, name: str, home: NDArray[np.float64], place: NDArray[np.float64], colour: str) -> None:
    if np.linalg.norm(home - place) > 0.06:
        axes.plot(*np.stack([home, place]).T, color=colour, linewidth=0.8, zorder=3)
    axes.text(
        *place, name, color=style.INK, fontsize=style.FONT - 0.5, ha="center", va="center",
        path_effects=style.outlined(), zorder=4,
    )  # fmt: skip


def interactive(chart: ItemMap) -> go.Figure:
    """The picture to look closer: hover over an item for its title, click a category to hide it."""
    figure = go.Figure()
    for row, name in enumerate(chart.categories):
        mine = np.flatnonzero(chart.category == row)
        department = int(chart.department[row])
        group = chart.departments[department] if department >= 0 else "other"
        figure.add_scattergl(
            x=chart.points[mine, 0].round(4),
            y=chart.points[mine, 1].round(4),
            mode="markers",
            marker={"size": 5, "opacity": 0.7, "color": style.colour(department) if department >= 0 else style.OTHER},
            text=[chart.titles[item] for item in mine],
            hovertemplate="%{text}<extra>" + name + "</extra>",
            name=name,
            legendgroup=group,
            legendgrouptitle={"text": group},
        )
        x, y = above(chart.points[mine])
        figure.add_annotation(x=x, y=y, text=name, showarrow=False, font={"size": 12}, bgcolor="rgba(255,255,255,0.6)")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, scaleanchor="x")
    figure.update_layout(
        height=800, margin={"l": 10, "r": 10, "t": 40, "b": 10}, plot_bgcolor="white", font_size=13,
        legend={"groupclick": "toggleitem", "font": {"size": 11}, "tracegroupgap": 4},
    )  # fmt: skip
    return figure
