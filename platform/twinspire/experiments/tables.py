"""The two tables of events. `interactions` is the contract's table with three columns more: training reads it as it is.

An exposure is one answered search of a unit in one experiment. `items` and `teams` are there where the answer was
drafted from two arms: what was shown, and the place of the arm that each came from.
"""

from __future__ import annotations

import polars as pl

from twinspire.dataset.schema import INTERACTIONS as CONTRACT
from twinspire.dataset.schema import TIMESTAMP

EXPOSURES_FOLDER, INTERACTIONS_FOLDER = "exposures", "interactions"

INTERACTIONS = pl.Schema(
    {**CONTRACT.polars_schema, "event_id": pl.String(), "request_id": pl.String(), "value": pl.Float64()}
)
EXPOSURES = pl.Schema(
    {
        "timestamp": TIMESTAMP,
        "request_id": pl.String(),
        "experiment": pl.String(),
        "arm": pl.String(),
        "unit_id": pl.String(),
        "user_id": pl.String(),
        "session_id": pl.String(),
        "query": pl.String(),
        "results": pl.Int32(),
        "took_ms": pl.Float32(),
        "status": pl.Int32(),
        "model_version": pl.String(),
        "override": pl.Boolean(),
        "items": pl.List(pl.String()),
        "teams": pl.List(pl.Int8()),
    }
)
TABLES = {EXPOSURES_FOLDER: EXPOSURES, INTERACTIONS_FOLDER: INTERACTIONS}


def table_of(rows: list[bytes], schema: pl.Schema) -> pl.DataFrame:
    """Rows of JSON, times in microseconds since 1970, as a table of that schema."""
    if not rows:
        return pl.DataFrame(schema=schema)
    stored = pl.Schema({name: pl.Int64() if name == "timestamp" else dtype for name, dtype in schema.items()})
    return pl.read_ndjson(b"\n".join(rows), schema=stored).cast({"timestamp": TIMESTAMP}).select(list(schema))
