"""A sentence encoder from a local folder: what a teacher is, and one system to compare with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TEXTS_AT_ONCE = 512
_SIMILARITIES = ("cosine", "dot")


def load_encoder(folder: Path, device: str | None = None) -> Any:
    """The encoder of a Hugging Face or sentence-transformers folder, on `device` (None: a GPU where there is one).

    Pooling, normalisation, prompts and the similarity are the folder's own; mean pooling and the cosine where it says
    nothing. Nothing is fetched, and no code of the folder's is run. Errors: EnvironmentProblem for a folder that is no
    encoder, or where the extra is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError:
        raise EnvironmentProblem(
            "encoder: sentence-transformers is not installed; pip install 'twinspire[encoder]'"
        ) from None
    if not folder.is_dir():
        raise EnvironmentProblem(f"encoder {folder}: no such folder; give one with a config.json and its weights")
    disable_progress_bar()
    try:
        encoder = SentenceTransformer(str(folder), device=device, local_files_only=True)
        encoder.encode_query(["a query"], show_progress_bar=False)
    except Exception as error:  # whatever a damaged folder brings about in a foreign library
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EnvironmentProblem(f"encoder {folder}: not a sentence encoder that can be read ({reason})") from None
    if encoder.similarity_fn_name not in _SIMILARITIES:
        known = " and ".join(_SIMILARITIES)
        raise EnvironmentProblem(f"encoder {folder}: similarity {encoder.similarity_fn_name!r}; {known} are known")
    return encoder


def encode_texts(
    encoder: Any, texts: Sequence[str], *, documents: bool, advance: Callable[[int], object] | None = None
) -> NDArray[np.float32]:
    """Vectors of texts, (T, E), of length 1 where the encoder's similarity is the cosine.

    `documents` says that the texts are titles, not queries; `advance` hears how many more are done.
    """
    encode = encoder.encode_document if documents else encoder.encode_query
    cosine = encoder.similarity_fn_name == "cosine"
    parts = [np.zeros((0, encoder.get_embedding_dimension()), np.float32)]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = list(texts[start : start + _TEXTS_AT_ONCE])
        parts.append(np.asarray(encode(part, show_progress_bar=False, normalize_embeddings=cosine), np.float32))
        if advance is not None:
            advance(len(part))
    return np.concatenate(parts)
