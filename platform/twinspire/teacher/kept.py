"""A teacher's vectors, kept on this machine: a text that it has seen once, in whatever fit, is not embedded again."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from twinspire.errors import EnvironmentProblem
from twinspire.teacher.encoder import encode_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

KEEP_EVERY = 4096  # texts; what a killed fit loses at the most


class KeptVectors:
    """The vectors of one encoder in `folder`, part files that are written beside and renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def encode(
        self, encoder: Any, texts: Sequence[str], *, documents: bool, advance: Callable[[int], object]
    ) -> NDArray[np.float32]:
        """As `encode_texts`, (T, E), to the precision of float16; what is not kept yet is embedded and kept.

        Errors: EnvironmentProblem where the folder cannot be written.
        """
        kind = "titles" if documents else "texts"
        wanted = pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)}).unique(maintain_order=True)
        known = [pl.read_parquet(path, glob=False) for path in sorted(self.folder.glob(f"{kind}-*.parquet"))]
        parts = [part.join(wanted, on="text", how="semi") for part in known]
        missing = wanted.join(pl.concat(parts), on="text", how="anti") if parts else wanted
        advance(len(texts) - len(missing))
        for start in range(0, len(missing), KEEP_EVERY):
            part = missing[start : start + KEEP_EVERY]
            vectors = encode_texts(encoder, part["text"].to_list(), documents=documents, advance=advance)
            held = part.with_columns(pl.Series("vector", [row.tobytes() for row in vectors.astype("<f2")]))
            self._keep(held, kind)
            parts.append(held)
        if not parts:
            return encode_texts(encoder, [], documents=documents)
        rows = pl.DataFrame({"text": pl.Series(list(texts), dtype=pl.String)}).join(
            pl.concat(parts).unique("text"), on="text", how="left", maintain_order="left"
        )
        flat = np.frombuffer(b"".join(rows["vector"]), "<f2").astype(np.float32)
        return flat.reshape(len(texts), -1)

    def _keep(self, part: pl.DataFrame, kind: str) -> None:
        path = self.folder / f"{kind}-{uuid.uuid4().hex}.parquet"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_parquet(path.with_suffix(".new"))
            path.with_suffix(".new").rename(path)
        except OSError as error:
            raise EnvironmentProblem(
                f"cache {self.folder}: {error.strerror or error}; set TWINSPIRE_CACHE to another folder"
            ) from None
