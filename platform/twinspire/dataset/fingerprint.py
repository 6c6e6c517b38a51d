"""The content fingerprint of a dataset's tables: sha256 over the files' bytes.

It depends on the tables' names, on the order and on the content of their files, not on where they lie or what
the part files are called. The same rows written by another Parquet writer have another fingerprint. Bytes are
streamed, at the speed of the disk or of sha256 (above 1 GB/s on a processor with SHA instructions).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def fingerprint(files: Mapping[str, Iterable[Path]]) -> str:
    """Hex sha256 of the tables: for each in name order its name and its files' digests in their order."""
    whole = hashlib.sha256()
    for table in sorted(files):
        digests = []
        for path in files[table]:
            with path.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        whole.update(f"{table}:{','.join(digests)}\n".encode())
    return whole.hexdigest()
