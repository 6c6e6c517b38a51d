"""Fig. 7 on a simulated market, what the share of random negatives does to results: `python -m benchmarks.alpha`.

For each loss and each alpha one fit; then the K best items of the validation window's cases, later clicks that training
never saw. Popularity is an item's percentile in the catalogue by training clicks; relevance is the market's own grade;
later clicks are the share of cases whose clicked item is among the K best. Intervals draw queries anew, with the same
draws for all fits, so that changes from the first alpha to the last are paired.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import rankdata

from benchmarks import report
from benchmarks.in_process import Fitted, fit
from pipelines.figures import log_figures
from twinspire import dataset, simulation
from twinspire.config import load_config
from twinspire.evaluation.bootstrap import Estimate, means
from twinspire.evaluation.figures import alpha as picture
from twinspire.evaluation.figures.alpha import Curve, verdict
from twinspire.evaluation.figures.page import Part, write_page
from twinspire.evaluation.heads import best_by_any_head

if TYPE_CHECKING:
    from twinspire.simulation import Truth

K, BLOCK = 10, 256
LOSSES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "softmax with log-Q (default)": (None, ()),
    "softmax without log-Q": (None, ("loss.correction=none",)),
    "hinge (dpsr-paper)": ("dpsr-paper", ()),
}
PANELS = {
    "popularity": "Popularity percentile of results",
    "relevance": "Relevance of results (truth)",
    "recall@10": "Later clicks in the 10 best",
}
METRICS = (*PANELS, "log clicks")
WHY = (
    "Batch negatives are as frequent as an item is popular, so that fewer of them let popular items rise. The log-Q "
    "correction takes out how often an item is drawn as a negative, and with it the effect; but with batch negatives "
    "alone (α = 0) items without clicks are never negatives, which nothing corrects."
)


def case_metrics(fitted: Fitted, truth: Truth) -> np.ndarray:
    """METRICS of each case, (Q, 4); popularity in per cent."""
    clicks = fitted.encoded.clicks("training")
    percentile = 100 * (rankdata(clicks) - 0.5) / len(clicks)
    target, texts = fitted.window["item"].to_numpy(), fitted.texts.to_list()
    found = []
    for start in range(0, len(target), BLOCK):
        part = slice(start, start + BLOCK)
        items, _ = best_by_any_head(fitted.queries[part] @ fitted.vectors.T, K)
        found.append(
            np.stack(
                [
                    percentile[items].mean(1),
                    truth.relevance(texts[part], items).mean(1),
                    (items == target[part, None]).any(1),
                    np.log1p(clicks[items]).mean(1),
                ],
                axis=1,
            )
        )
    return np.concatenate(found)


def curves(values: dict[str, list[np.ndarray]], alphas: tuple[float, ...], queries: np.ndarray) -> list[Curve]:
    """Cases' metrics, (Q, M) of each loss and alpha, to curves with intervals."""
    flat = np.concatenate([table for tables in values.values() for table in tables], axis=1)
    mean, resampled = means(flat, queries, rounds=1000, seed=0)
    shape = (len(values), len(alphas), len(METRICS))
    mean, resampled = mean.reshape(shape), resampled.reshape(-1, *shape)
    change, resampled_change = mean[:, -1] - mean[:, 0], resampled[:, :, -1] - resampled[:, :, 0]
    return [
        Curve(
            name=name,
            alphas=alphas,
            metrics={
                metric: tuple(Estimate.of(mean[n, a, m], resampled[:, n, a, m]) for a in range(len(alphas)))
                for m, metric in enumerate(METRICS)
            },
            change={metric: Estimate.of(change[n, m], resampled_change[:, n, m]) for m, metric in enumerate(METRICS)},
        )
        for n, name in enumerate(values)
    ]


def measure(data: Path, alphas: tuple[float, ...], seeds: int, settings: tuple[str, ...]) -> list[Curve]:
    """Fit every loss with every alpha; cases' metrics are means over seeds."""
    source, truth = dataset.read(data, require_interactions=True), simulation.truth.load(data)
    values: dict[str, list[np.ndarray]] = {name: [] for name in LOSSES}
    queries = np.zeros(0, np.int64)
    for name, alpha in track([(name, alpha) for name in LOSSES for alpha in alphas], "fit"):
        config, own = LOSSES[name]
        tables = []
        for seed in range(seeds):
            chosen = ("log.validation_cap=20000", *own, *settings, f"negatives.alpha={alpha}", f"training.seed={seed}")
            with tempfile.TemporaryDirectory() as folder:
                fitted = fit(source, load_config(config, chosen), Path(folder) / "encoded")
                tables.append(case_metrics(fitted, truth))
                queries = fitted.window["query"].to_numpy()
        values[name].append(np.mean(tables, axis=0))
    return curves(values, alphas, queries)


def title(found: list[Curve]) -> str:
    """What the picture says, from the changes of popularity."""
    default, *_, paper = found
    ours, theirs = verdict(default.change["popularity"]), verdict(paper.change["popularity"])
    return f"Popularity as α rises: {theirs} with the paper's loss, {ours} with log-Q"


def show(found: list[Curve]) -> None:
    table = Table(title=title(found), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("loss", "alpha", *METRICS):
        table.add_column(column, justify="left" if column == "loss" else "right", no_wrap=True)
    for curve in found:
        for a, alpha in enumerate(curve.alphas):
            cells = [f"{curve.metrics[m][a].value:.3f}" for m in METRICS]
            table.add_row(curve.name if a == 0 else "", f"{alpha:g}", *cells)
        table.add_row("", "change", *(interval(curve.change[m]) for m in METRICS))
        table.add_section()
    Console(width=150).print(table)


def interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def write_pictures(found: list[Curve], out: Path) -> list[Path]:
    """`alpha.png` and `alpha.html`."""
    heading, panels = title(found), dict(PANELS)
    detail = f"The {K} best items for later queries of a simulated market; bands: 95 % intervals, queries drawn anew."
    png = picture.draw(found, panels, heading, detail, out / "alpha.png")
    parts = [Part(heading, f"{detail} {WHY}", picture.interactive(found, panels))]
    return [png, write_page(out / "alpha.html", "Share of random negatives", parts)]


@click.command()
@click.option("--items", default=5_000, show_default=True, help="Items of the simulated market.")
@click.option("--users", default=2_000, show_default=True, help="Shoppers of the simulated market.")
@click.option("--interactions", default=100_000, show_default=True, help="Interactions of the simulated market.")
@click.option("--alpha", "alphas", multiple=True, default=(0.0, 0.25, 0.5, 0.75, 1.0), show_default=True, type=float)
@click.option("--seeds", default=1, show_default=True, help="Fits of each loss and alpha.")
@click.option("--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting of all fits.")
@click.option("--out", default="figures", show_default=True, type=click.Path(path_type=Path), help="Pictures' folder.")
@click.option("--mlflow/--no-mlflow", default=False, show_default=True, help="Keep the pictures with an MLflow run.")
def main(items: int, users: int, interactions: int, alphas: tuple[float, ...], seeds: int, settings: tuple[str, ...],
         out: Path, mlflow: bool) -> None:  # fmt: skip
    """Measure and draw the effect of the mixing ratio, with three losses."""
    with tempfile.TemporaryDirectory() as folder:
        simulation.simulate(Path(folder) / "market", items=items, users=users, interactions=interactions, seed=0)
        found = measure(Path(folder) / "market", alphas, seeds, settings)
    show(found)
    figures: dict[str, Any] = {curve.name: curve.model_dump(mode="json") for curve in found}
    Console().print(f"written to {report.write('alpha', figures)}")
    paths = write_pictures(found, out)
    Console().print(", ".join(str(path) for path in paths))
    if mlflow:
        Console().print(f"kept with MLflow run {log_figures(paths, 'the mixing ratio')}")


if __name__ == "__main__":
    main()
