"""What a reading of a dataset found: counts by table and reason, the conversions made, the log in figures."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinspire.errors import DatasetError

if TYPE_CHECKING:
    from rich.console import RenderableType


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cast(_Model):
    """A column stored as one type and read as another."""

    column: str
    found: str
    read_as: str


class TableReport(_Model):
    """One table. `rows` = good rows + `bad_rows`; `bad_rows` = the sum of `reasons`, commonest first."""

    rows: int
    bad_rows: int
    reasons: dict[str, int]
    casts: list[Cast]
    files: int
    size_bytes: int
    quarantine: str | None = None
    """The file with the bad rows; None if there are none."""

    @property
    def bad_share(self) -> float:
        """Bad rows by rows; 0 for an empty table."""
        return self.bad_rows / self.rows if self.rows else 0.0


class LogReport(_Model):
    """The good rows of the interactions: first and last time, distinct queries whatever their case, rows by
    event."""

    first: datetime | None
    last: datetime | None
    distinct_queries: int
    events: dict[str, int]


class Report(_Model):
    """The whole dataset. Prints itself with rich; `model_dump_json()` for machines."""

    path: str
    fingerprint: str
    tables: dict[str, TableReport]
    log: LogReport | None = None

    @property
    def bad_rows(self) -> int:
        """Bad rows over all tables."""
        return sum(table.bad_rows for table in self.tables.values())

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._counts()]
        if self.bad_rows:
            parts.append(self._reasons())
            files = [table.quarantine for table in self.tables.values() if table.quarantine]
            parts.extend(Text(f"quarantine   {file}", overflow="fold") for file in files)
        if self.log is not None and self.log.first is not None:
            events = ", ".join(f"{count:,} {event}" for event, count in self.log.events.items())
            parts.append(Text(f"log          {self.log.first:%Y-%m-%d %H:%M} to {self.log.last:%Y-%m-%d %H:%M} UTC"))
            parts.append(Text(f"events       {events}"))
            parts.append(Text(f"queries      {self.log.distinct_queries:,} distinct"))
        parts.extend(
            Text(f"read as      {name}.{cast.column}: {cast.found} as {cast.read_as}")
            for name, table in self.tables.items()
            for cast in table.casts
        )
        parts.append(Text(f"fingerprint  {self.fingerprint}", overflow="fold"))
        return Group(*parts)

    def _counts(self) -> Table:
        grid = Table(title=Text(self.path, overflow="fold"), title_justify="left")
        grid.add_column("table", no_wrap=True)
        for heading in ("files", "MB", "rows", "good", "bad", "bad %"):
            grid.add_column(heading, justify="right")
        for name, table in self.tables.items():
            grid.add_row(
                name,
                f"{table.files:,}",
                f"{table.size_bytes / 1e6:,.1f}",
                f"{table.rows:,}",
                f"{table.rows - table.bad_rows:,}",
                f"{table.bad_rows:,}",
                f"{100 * table.bad_share:.3f}",
            )
        return grid

    def _reasons(self) -> Table:
        grid = Table()
        grid.add_column("table", no_wrap=True)
        grid.add_column("reason")
        grid.add_column("rows", justify="right")
        for name, table in self.tables.items():
            for reason, count in table.reasons.items():
                grid.add_row(name, reason, f"{count:,}")
        return grid


class BadRowsError(DatasetError):
    """A table has more bad rows than allowed; `report` has the counts of all tables."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report
