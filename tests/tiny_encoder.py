"""A tiny sentence encoder: a BERT of two layers with random weights, saved as Hugging Face saves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_encoder(folder: Path, words: Sequence[str], dim: int = 16) -> Path:
    """Write the encoder, which knows these words and says nothing about pooling; skips where the extra is missing."""
    transformers = pytest.importorskip("transformers", reason="needs twinspire[encoder]")
    pytest.importorskip("sentence_transformers", reason="needs twinspire[encoder]")
    import torch

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokeniser = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=16)
    tokeniser.save_pretrained(folder)
    torch.manual_seed(0)
    shape = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=dim, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertModel(shape).save_pretrained(folder)
    return folder
