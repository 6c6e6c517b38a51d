"""Config of the index room."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class IndexConfig(BaseModel):
    """How the catalogue's vectors are searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str = Field(
        "auto",
        description="a FAISS factory string; auto: exact up to `exact_up_to` items, then the cheapest measured",
    )
    exact_up_to: int = Field(
        100_000, ge=0, description="catalogues up to this size are searched exactly, or with recall@100 of 0.999"
    )
    recall_target: float = Field(0.95, gt=0, le=1, description="recall against exact search, @100 and @1000, to reach")
    filters: Literal["auto"] | list[str] = Field(
        "auto", description="columns of items that a search can be limited by; auto: brand, category and price"
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="cuda: built on a GPU, of the kinds that FAISS can search there; needs twinspire[gpu]"
    )
    actors: int = Field(1, ge=1, le=4096, description="Ray actors that embed the catalogue")
