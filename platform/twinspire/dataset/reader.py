"""Reads a dataset against the contract: structure first, then every row, in columns and in streams.

The log is never in memory: one streaming pass counts its bad rows and its figures, and a second, only if
there are bad rows, writes them to the quarantine. Memory is the catalogue, the users and the set of distinct
queries.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from twinspire.dataset.checks import FAULT, fault_code, faults
from twinspire.dataset.config import MAX_BAD_SHARE
from twinspire.dataset.fingerprint import fingerprint
from twinspire.dataset.quarantine import Quarantine
from twinspire.dataset.report import BadRowsError, LogReport, Report, TableReport
from twinspire.dataset.schema import EVENTS, TABLES
from twinspire.dataset.source import ROW, UNREADABLE, find_files, open_table
from twinspire.errors import DatasetError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twinspire.dataset.checks import Fault
    from twinspire.dataset.source import Source


@dataclass(frozen=True, slots=True)
class Dataset:
    """The good rows of a dataset: the contract's columns in its order and types, then all others.

    `interactions` is a lazy scan in stored order that leaves out the bad rows; collect it with
    `engine="streaming"`.
    """

    path: Path
    items: pl.DataFrame
    users: pl.DataFrame | None
    interactions: pl.LazyFrame | None
    judgements: pl.DataFrame | None
    supervision: pl.DataFrame | None
    fingerprint: str
    report: Report


@dataclass(frozen=True, slots=True)
class _Checked:
    """A table after its check: `good` leaves out the bad rows, `excess` says that they are too many."""

    good: pl.LazyFrame
    report: TableReport
    log: LogReport | None
    excess: str | None


def read(
    path: str | Path,
    *,
    max_bad_share: float = MAX_BAD_SHARE,
    max_bad_share_newest: float | None = None,
    quarantine: str | Path | None = None,
    require_interactions: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Read the tables under `path`: count and quarantine the rows that break the contract, return the rest.

    Bad rows go to `<quarantine>/<table>.parquet` with `row` (0-based, over the table's files in name order)
    and `reason`; without `quarantine` the folder is `<path>/quarantine`, or a temporary one where that cannot
    be written. A bad item row makes its interactions bad too. `progress` is told which table is being
    checked.

    Raises DatasetError for a broken structure, and BadRowsError (a DatasetError with the report), after all
    tables are checked, where the share of bad rows in a table is above `max_bad_share`, or in the last of several
    files of the interactions above `max_bad_share_newest`: what is wrong with one day drowns in a long log.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"dataset: {folder} is not a folder" if folder.exists() else f"dataset: no folder {folder}")
    for option, share in (("max_bad_share", max_bad_share), ("max_bad_share_newest", max_bad_share_newest)):
        if share is not None and not 0 <= share <= 1:
            raise DatasetError(f"{option}: {share} is not in [0, 1]")
    store = Quarantine(folder, None if quarantine is None else Path(quarantine))
    tell = progress or (lambda _: None)
    sources = _open(folder, require_interactions=require_interactions)
    tell("fingerprint")
    with _readable("dataset"):
        digest = fingerprint({name: source.files for name, source in sources.items()})
    ids: dict[str, pl.Series] = {}
    frames: dict[str, pl.DataFrame] = {}
    checked: dict[str, _Checked] = {}
    for name, source in sources.items():
        tell(name)
        with _readable(name):
            newest = max_bad_share_newest if name == "interactions" else None
            checked[name] = _check(source, ids, store, max_bad_share, newest)
            if name != "interactions":
                frames[name] = checked[name].good.collect(engine="streaming")
        if name == "items":
            ids[name] = frames[name]["item_id"]
    report = Report(
        path=str(folder),
        fingerprint=digest,
        tables={name: table.report for name, table in checked.items()},
        log=checked["interactions"].log if "interactions" in checked else None,
    )
    needed = ["items", "interactions"] if require_interactions else ["items"]
    _stop_on_excess(checked, needed, report)
    return Dataset(
        path=folder,
        items=frames["items"],
        users=frames.get("users"),
        interactions=checked["interactions"].good if "interactions" in checked else None,
        judgements=frames.get("judgements"),
        supervision=frames.get("supervision"),
        fingerprint=digest,
        report=report,
    )


def _open(folder: Path, *, require_interactions: bool) -> dict[str, Source]:
    sources = {}
    for name, table in TABLES.items():
        with _readable(name):
            files = find_files(folder, table)
            if files:
                sources[name] = open_table(table, files)
    if require_interactions and "interactions" not in sources:
        raise DatasetError(f"interactions: no table interactions.parquet or folder interactions/ in {folder}")
    return sources


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what Polars says about damaged pages into one line that names the table."""
    try:
        yield
    except UNREADABLE as error:
        raise DatasetError(f"{name}: cannot be read (damaged file?): {first_line(error)}") from error


def _check(
    source: Source,
    ids: Mapping[str, pl.Series],
    store: Quarantine,
    max_bad_share: float,
    max_bad_share_newest: float | None,
) -> _Checked:
    """One pass for all counts; a second over the bad rows, if there are any."""
    name = source.table.name
    found = faults(source, ids)
    coded = source.scan.with_columns(fault_code(found))
    counts = [(pl.col(FAULT) == i).sum().alias(str(i)) for i in range(1, len(found) + 1)]
    figures = _log_figures(source) if name == "interactions" else []
    row = coded.select(pl.len().alias("rows"), *counts, *figures).collect(engine="streaming").row(0, named=True)
    reasons = {fault.reason: row[str(i)] for i, fault in enumerate(found, start=1) if row[str(i)]}
    bad_rows = sum(reasons.values())
    good, written = source.scan, None
    if bad_rows:
        written = store.write(source, coded, found)
        good = source.scan.filter(~pl.col(ROW).is_in(_rows(written)))
    else:
        store.clear(name)
    report = TableReport(
        rows=row["rows"],
        bad_rows=bad_rows,
        reasons=dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
        casts=list(source.casts),
        files=len(source.files),
        size_bytes=sum(path.stat().st_size for path in source.files),
        quarantine=None if written is None else str(written),
    )
    excess = _excess(name, report, found, max_bad_share) if report.bad_share > max_bad_share else None
    if excess is None and max_bad_share_newest is not None:
        excess = _newest_excess(source, report, found, max_bad_share_newest)
    return _Checked(
        good=good.select(source.clean_columns),
        report=report,
        log=_log_report(row, bad_rows) if figures else None,
        excess=excess,
    )


def _rows(written: Path) -> pl.Series:
    """The bad rows' numbers, as a list to test membership in: later scans need not judge each row again."""
    rows = pl.scan_parquet(written, glob=False).select(pl.col("row").cast(pl.get_index_type())).collect()["row"]
    return rows.implode()


def _log_figures(source: Source) -> list[pl.Expr]:
    good = pl.col(FAULT) == 0
    clean = dict(zip(source.table.polars_schema, source.clean_columns, strict=False))
    # Hashes, not texts: the set of distinct queries is then 8 bytes a query. One null stands for all bad
    # rows.
    query = clean["query"].str.strip_chars().str.to_lowercase().hash()
    return [
        pl.when(good).then(clean["timestamp"]).min().alias("first"),
        pl.when(good).then(clean["timestamp"]).max().alias("last"),
        pl.when(good).then(query).n_unique().alias("queries"),
        *((good & (clean["event"] == event)).sum().alias(event) for event in EVENTS),
    ]


def _log_report(row: Mapping[str, Any], bad_rows: int) -> LogReport:
    return LogReport(
        first=row["first"],
        last=row["last"],
        distinct_queries=row["queries"] - (1 if bad_rows else 0),
        events={event: row[event] for event in EVENTS},
    )


def _excess(name: str, report: TableReport, found: list[Fault], allowed: float) -> str:
    """One line: how many, the commonest reason, one such row, and where they all are."""
    assert report.quarantine is not None, "bad rows have been written"
    bad = pl.scan_parquet(report.quarantine, glob=False)
    return _told(name, bad, report.rows, found, allowed, report.quarantine)


def _newest_excess(source: Source, report: TableReport, found: list[Fault], allowed: float) -> str | None:
    """The same of the last of several files; None where it is good enough."""
    if len(source.files) < 2 or report.quarantine is None:
        return None
    last = source.files[-1]
    rows = int(pl.scan_parquet(last, glob=False).select(pl.len()).collect().item())
    bad = pl.scan_parquet(report.quarantine, glob=False).filter(pl.col("row") >= report.rows - rows)
    if bad.select(pl.len()).collect().item() <= allowed * rows:
        return None
    return _told(f"{source.table.name}: of its newest file, {last.name}", bad, rows, found, allowed, report.quarantine)


def _told(what: str, bad: pl.LazyFrame, rows: int, found: list[Fault], allowed: float, where: str) -> str:
    reasons = bad.group_by("reason").len().sort("len", "reason", descending=[True, False]).collect()
    total, (reason, count) = reasons["len"].sum(), reasons.row(0)
    column = next(fault.column for fault in found if fault.reason == reason)
    example = bad.filter(pl.col("reason") == reason).head(1).collect().row(0, named=True)
    value = repr(example[column])
    value = value if len(value) <= 80 else value[:77] + "..."
    return (
        f"{what}: {total:,} of {rows:,} rows ({100 * total / rows:.2f} %) break the "
        f"contract, above the allowed {100 * allowed:g} %; most often: {reason} ({count:,} rows, such as row "
        f"{example['row']:,} with {column} = {value}); all of them are in {where}: "
        "mend the table, or allow a larger share (--max-bad-share, or --set dataset.max_bad_share where there is --set)"
    )


def _stop_on_excess(checked: Mapping[str, _Checked], needed: list[str], report: Report) -> None:
    for table in checked.values():
        if table.excess is not None:
            raise BadRowsError(table.excess, report)
    for name in needed:
        table_report = report.tables[name]
        if table_report.rows == 0:
            raise BadRowsError(f"{name}: the table has no rows", report)
        if table_report.rows == table_report.bad_rows:
            raise BadRowsError(f"{name}: none of the {table_report.rows:,} rows is good", report)
