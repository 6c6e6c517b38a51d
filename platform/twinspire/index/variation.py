"""What may be changed of how a loaded bundle ranks, without another bundle: for arms of an experiment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Weight = Annotated[float, Field(ge=0, le=100)]


class Variation(BaseModel):
    """Changes to a bundle's ranking; what is left out stays as the bundle has it.

    `retrieval` says which parts rank: `hybrid` as the bundle does, `vectors` the towers alone, `lexical` the words
    alone: no query tower, no earlier clicks, and among items with the same words the most clicked come first. The
    weights come after it, so `{retrieval: vectors, memory: 0.5}` has two parts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retrieval: Literal["hybrid", "lexical", "vectors"] = "hybrid"
    lexical: Weight | None = Field(None, description="weight of the words in common")
    memory: Weight | None = Field(None, description="weight of earlier clicks for the same query")
    trend: Weight | None = Field(None, description="weight of an item's clicks of late")
    personalised: bool = Field(True, description="false: the shopper is left out of the ranking")
    heads: int | None = Field(None, ge=1, description="the first so many query heads alone")

    def weights(self, own: dict[str, float]) -> dict[str, float]:
        """The weights of words, memory and trend, where the bundle's are `own`."""
        of_part: dict[str, dict[str, float]] = {
            "hybrid": own,
            "vectors": dict.fromkeys(own, 0.0),
            "lexical": dict.fromkeys(own, 0.0) | {"lexical": own["lexical"] or 1.0},
        }
        given = {name: getattr(self, name) for name in own if getattr(self, name) is not None}
        return of_part[self.retrieval] | given
