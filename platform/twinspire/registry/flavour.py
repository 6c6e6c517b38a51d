"""A bundle as an MLflow model: a table of queries in, ranked items out.

MLflow imports this module and calls `_load_pyfunc`: the version in the registry holds the bundle and a description, no
code and no pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

import twinspire
from twinspire.bundle import Bundle
from twinspire.errors import RequestError
from twinspire.features.query import Query, Shopper
from twinspire.mlflow_client import quiet

FOLDER = "bundle"  # where the bundle lies among the model's files
DEFAULT_K = 10
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "query"), ColSpec(DataType.string, "user_id", required=False)]),
    outputs=Schema(
        [
            ColSpec(DataType.long, "row"),
            ColSpec(DataType.integer, "rank"),
            ColSpec(DataType.string, "item_id"),
            ColSpec(DataType.float, "score"),
        ]
    ),
    params=ParamSchema([ParamSpec("k", DataType.long, DEFAULT_K)]),
)


class Ranker:
    """What `mlflow.pyfunc.load_model` gives."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rows of `query` and optionally `user_id` to rows of `row` (the query's, from 0), `rank`, `item_id`, `score`.

        `params["k"]` items a query, fewer where the catalogue is smaller. Errors: RequestError.
        """
        wanted = (params or {}).get("k", DEFAULT_K)
        if wanted < 1:
            raise RequestError("k", f"is {wanted}; it must be 1 or more")
        k = min(int(wanted), len(self.bundle.item_ids))
        found = self.bundle.search(_queries(model_input), k)
        rows, ranks = np.nonzero(found.items >= 0)
        items = found.items[rows, ranks]
        return pd.DataFrame(
            {
                "row": rows.astype(np.int64),
                "rank": (ranks + 1).astype(np.int32),
                "item_id": self.bundle.items["item_id"].gather(items).to_list(),
                "score": found.scores[rows, ranks],
            }
        )


def _load_pyfunc(path: str) -> Ranker:
    """MLflow's hook; `path` is the folder of the whole model."""
    return Ranker(Bundle.load(Path(path) / FOLDER))


def describe(folder: Path, model: Model, size: int) -> None:
    """Write the model's description (MLmodel, signature, input example, requirements) into a new `folder`.

    The bundle, `size` bytes, is not copied into it: it belongs beside the description, under FOLDER.
    """
    with quiet():
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            folder,
            loader_module=__name__,
            mlflow_model=model,
            signature=SIGNATURE,
            input_example=pd.DataFrame({"query": ["red shoes"], "user_id": ["u1"]}),
            pip_requirements=[f"twinspire[cpu]=={twinspire.__version__}"],  # given, or MLflow infers them for minutes
        )
    model.model_size_bytes = size
    model.save(str(folder / "MLmodel"))


def _queries(frame: pd.DataFrame) -> list[Query]:
    users = frame["user_id"] if "user_id" in frame.columns else [None] * len(frame)
    return [
        Query(_text(query, row), Shopper(user_id=str(user)) if not pd.isna(user) else None)
        for row, (query, user) in enumerate(zip(frame["query"], users, strict=True))
    ]


def _text(query: Any, row: int) -> str:
    if isinstance(query, list):
        raise RequestError(f"query[{row}]", "is a list; give a table, such as a pandas DataFrame, with a query a row")
    if not isinstance(query, str) or not query.strip():
        raise RequestError(f"query[{row}]", "is empty; give what the shopper typed")
    return query
