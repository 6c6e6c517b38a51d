"""What each part of the default model brings: fits that differ in one thing, measured on the same later clicks and
judgements.

`python -m benchmarks.ablation --data bestbuy --teacher DIR` fits each arm with the command line's own defaults but for
what its name says, and prints each arm's figures and its paired difference from the first, with 95 % intervals over
queries; the first arm's MLflow run keeps them too. Without clicks the arms that only clicks can tell apart are left
out.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from benchmarks import report
from pipelines.evaluate import evaluate_bundle, log_report
from pipelines.fit import fit
from twinspire import dataset
from twinspire.bundle import Manifest
from twinspire.bundle.manifest import MANIFEST
from twinspire.config import load_config
from twinspire.evaluation import EvaluationConfig, Report

if TYPE_CHECKING:
    from twinspire.evaluation.bootstrap import Estimate

WORDS = "[{kind: ngram_bag, stream: words}]"
TEXT = "[{kind: ngram_bag, stream: words}, {kind: ngram_bag, stream: grams}]"
FIRST = "default"
ARMS: dict[str, tuple[str, ...]] = {
    FIRST: (),
    "dimension-128": ("model.dim=128",),
    "dimension-64": ("model.dim=64",),
    "no-skip-path": ("model.skip=false",),
}
CLICK_ARMS: dict[str, tuple[str, ...]] = {
    "no-log-q": ("loss.correction=none",),
    "no-item-id": (f"features.item={TEXT}",),
    "no-trigrams": (f"features.query={WORDS}", "features.item=[{kind: ngram_bag, stream: words}, {kind: id}]"),
    "clicks-of-any-age": ("log.half_life_days=null",),
    "titles-beside-clicks": ("log.fill_up_to=1000000000",),
}
TAUGHT: dict[str, tuple[str, ...]] = {"taught": (), "taught-dimension-128": ("model.dim=128",)}
WITHOUT: dict[str, dict[str, float]] = {  # what needs no fit of its own: a bundle that leaves a part out
    "no-words": {"lexical": 0.0},
    "no-memory": {"memory": 0.0},
    "no-trend": {"trend": 0.0},
    "vectors-alone": {"lexical": 0.0, "memory": 0.0, "trend": 0.0},
}
CLICKS = {"all": ("hit@1", "recall@10"), "unseen": ("hit@1", "recall@10"), "no common word": ("recall@10",)}
JUDGED = ("auc", "auc_within_query", "ndcg@10")


def leave_out(bundle: Path, arm: str, parts: dict[str, float]) -> Path:
    """A copy of a bundle with other weights of words, memory and trend."""
    folder = bundle.with_name(f"{bundle.name}-{arm}" if bundle.name != FIRST else arm)
    shutil.copytree(bundle, folder)
    manifest = Manifest.read(bundle)
    changed = manifest.model_copy(update={"fusion": manifest.fusion.model_copy(update=parts)})
    (folder / MANIFEST).write_text(changed.model_dump_json(indent=2))
    return folder


def figures_of(found: Report, arm: str) -> dict[str, dict[str, Any]]:
    """Of one arm its figures, and its differences from the first, by name."""
    told: dict[str, dict[str, Any]] = {}
    sections = [(name, found.slices[name], metrics) for name, metrics in CLICKS.items() if name in found.slices]
    if found.judgements is not None:
        sections.append(("judged", found.judgements, JUDGED))
    for name, section, metrics in sections:
        if not section.cases:
            continue
        for metric in metrics:
            told[f"{name} {metric}"] = {"value": section.systems[arm][metric].model_dump()}
            if arm != "model":
                less = section.differences[f"model - {arm}"][metric]
                told[f"{name} {metric}"]["difference"] = _turned(less)
    return told


def _turned(less: Estimate) -> dict[str, float]:
    """Arm less first, of what the report has as first less arm."""
    value, low, high = (float("nan") if part is None else -part for part in (less.value, less.high, less.low))
    return {"value": value, "low": low, "high": high}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Dataset with clicks or judgements.")
@click.option("--teacher", type=click.Path(path_type=Path), help="Sentence encoder; without it nothing is taught.")
@click.option("--holdout-days", default=10.0, show_default=True, help="Last days of the log, which are the test.")
@click.option("--arm", "only", multiple=True, help="Fit these arms beside the default alone.")
@click.option("--name", default="ablation", show_default=True, help="Name of the file of results.")
def main(data: Path, teacher: Path | None, holdout_days: float, only: tuple[str, ...], name: str) -> None:
    """Fit every arm and compare."""
    clicks = dataset.read(data).interactions is not None
    arms: dict[str, tuple[tuple[str, ...], Path | None]] = {
        arm: (settings, None) for arm, settings in (ARMS | (CLICK_ARMS if clicks else {})).items()
    }
    arms |= {arm: (settings, teacher) for arm, settings in TAUGHT.items()} if teacher else {}
    if only:
        arms = {arm: each for arm, each in arms.items() if arm in (FIRST, *only)}
    with tempfile.TemporaryDirectory() as folder:
        bundles = {arm: Path(folder) / arm for arm in arms}
        for arm, (settings, its_teacher) in arms.items():
            click.echo(f"arm {arm}", err=True)
            held = (f"log.holdout_days={holdout_days}",) if clicks else ()
            fit(data, bundles[arm], load_config(None, (*held, *settings)), teacher=its_teacher)
        for whole in [FIRST, *(["taught"] if "taught" in bundles else [])]:
            copies = [leave_out(bundles[whole], arm, parts) for arm, parts in WITHOUT.items()]
            bundles |= {copy.name: copy for copy in copies}
        others = [folder for arm, folder in bundles.items() if arm != FIRST]
        found = evaluate_bundle(bundles[FIRST], data, EvaluationConfig(), against=others, encoder=teacher)
        table = Path(folder) / f"{name}.json"
        table.write_text(found.model_dump_json(indent=2))
        if problem := log_report(bundles[FIRST], table):
            click.echo(f"not kept in MLflow: {problem}", err=True)
    told = {arm: figures_of(found, "model" if arm == FIRST else arm) for arm in bundles}
    beside = ["bm25", "query memory", *(["encoder"] if teacher else [])]
    told |= {system: figures_of(found, system) for system in beside}
    show(told)
    click.echo(f"written: {report.write(name, {'data': data.name, 'arms': told})}")


def show(told: dict[str, dict[str, dict[str, Any]]]) -> None:
    """A Markdown table: the first arm's figures, and every other's difference from it."""
    columns = list(told[FIRST])
    lines = [" | ".join(["", *columns]), "|".join(["---"] * (len(columns) + 1))]
    for arm, figures in told.items():
        cells = []
        for column in columns:
            each = figures[column]
            shown = each.get("difference", each["value"])
            sign = "+" if "difference" in each else ""
            cells.append(f"{shown['value']:{sign}.3f} ({shown['low']:{sign}.3f} {shown['high']:{sign}.3f})")
        lines.append(" | ".join([arm, *cells]))
    Console(width=1000).print("\n".join(f"| {line} |" for line in lines), markup=False, highlight=False)


if __name__ == "__main__":
    main()
