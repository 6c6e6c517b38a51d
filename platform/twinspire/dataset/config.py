"""How bad a dataset may be before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MAX_BAD_SHARE = 0.01


class DatasetConfig(BaseModel):
    """Shares of rows that break the contract."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bad_share: float = Field(MAX_BAD_SHARE, ge=0, le=1, description="of the rows of a table")
    max_bad_share_newest: float = Field(
        0.05,
        ge=0,
        le=1,
        description="of the rows of the last file of the interactions, where there are several; of retrain",
    )
