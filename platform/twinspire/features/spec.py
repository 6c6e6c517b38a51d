"""Typed feature specs: what the config declares for each tower.

Every feature of a query, a shopper or an item becomes a bag of rows of a named embedding table (row 0 is unused, an
unknown value is an empty bag), so that a tower looks up, pools and adds all of them alike. A table named by two
features is shared: the brands in a shopper's history meet the brands of the items in one space.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NgramBag(_Spec):
    """Tokens of the query text or the item's text (5.1.1): `words` with bigrams, or character `grams`."""

    kind: Literal["ngram_bag"] = "ngram_bag"
    stream: Literal["words", "grams"] = "words"

    def name(self, side: str) -> str:
        """The feature's name; text has one table for both towers."""
        return self.stream

    def table(self, side: str) -> str:
        """The embedding table that the feature looks up."""
        return self.stream


class Id(_Spec):
    """The item itself, once it has enough clicks to be told from its text; dropped at random so that text suffices."""

    kind: Literal["id"] = "id"
    min_count: int = Field(10, ge=1, description="clicks that an item needs for a row of its own")
    dropout: float = Field(0.3, ge=0, lt=1)

    def name(self, side: str) -> str:
        """The feature's name."""
        return "item.id"

    def table(self, side: str) -> str:
        """The embedding table that the feature looks up."""
        return "item.id"


class Category(_Spec):
    """A column of labels; levels joined by " > " give one row each, so that a rare leaf still has its parents."""

    kind: Literal["category"] = "category"
    column: str
    min_count: int = Field(2, ge=1)

    def name(self, side: str) -> str:
        """The feature's name: `user.gender`, `item.brand`."""
        return f"{side}.{self.column}"

    def table(self, side: str) -> str:
        """The embedding table that the feature looks up."""
        return self.name(side)


class Number(_Spec):
    """A numeric column, cut into quantiles."""

    kind: Literal["number"] = "number"
    column: str
    bins: int = Field(20, ge=2, le=1000)

    def name(self, side: str) -> str:
        """The feature's name: `item.price`."""
        return f"{side}.{self.column}"

    def table(self, side: str) -> str:
        """The embedding table that the feature looks up."""
        return self.name(side)


Kind = Literal["click", "cart", "purchase"]


class History(_Spec):
    """The shopper's last events before this query, seen through one feature of their items (`id`, `brand`, ...).

    An event weighs what its kind weighs, less the older it is; the weights of a history add up to 1.
    """

    kind: Literal["history"] = "history"
    of: str = "id"
    length: int = Field(50, ge=1, le=1000, description="events read, the most recent ones")
    weights: dict[Kind, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        {"click": 1.0, "cart": 2.0, "purchase": 4.0},
        min_length=1,
        description="what an event of each kind weighs; a kind left out is not read",
    )
    half_life_days: float | None = Field(
        30,
        gt=0,
        le=36_500,
        description="an event this much older than the last weighs half; null: age is ignored",
    )
    dropout: float = Field(
        0.5, ge=0, lt=1, description="share of histories left out in training, so that none is learnt by heart"
    )

    def name(self, side: str) -> str:
        """The feature's name: `history.brand`, or `history.brand.purchase` where some kinds are not read."""
        read = [kind for kind in get_args(Kind) if kind in self.weights]
        return ".".join(["history", self.of, *(["+".join(read)] if len(read) < len(get_args(Kind)) else [])])

    def table(self, side: str) -> str:
        """The embedding table that the feature looks up: that of the items' feature."""
        return f"item.{self.of}"


QueryFeature = Annotated[NgramBag | Category | Number | History, Field(discriminator="kind")]
QueryParts = Literal["auto", "text", "profile", "history"]
ItemFeature = Annotated[NgramBag | Id | Category | Number, Field(discriminator="kind")]


class FeatureConfig(_Spec):
    """Which features enter which tower. `auto` takes what the tables hold: see `resolve`.

    For the query tower, `text` takes the query alone (DPSR in the paper), `profile` the shopper's profile too (DPSR-p),
    and `history` also what the shopper did (DPSR-h); both are refused where the tables lack it.
    """

    query: QueryParts | Annotated[tuple[QueryFeature, ...], Field(min_length=1)] = "auto"
    item: Literal["auto"] | Annotated[tuple[ItemFeature, ...], Field(min_length=1)] = "auto"
    item_text: tuple[str, ...] = Field(("title",), min_length=1, description="item columns whose text is tokenised")
    min_item_count: int = Field(1, ge=1, description="a token is kept if this many items have it,")
    min_query_count: int = Field(2, ge=1, description="or this many distinct queries")
    max_token_rows: int = Field(500_000, ge=1, description="rows of each text table; the most frequent tokens stay")
    history_length: int = Field(
        50,
        ge=1,
        le=1000,
        description="events of each kind kept for each shopper in the bundle, at least what a history feature reads",
    )

    @property
    def remembered(self) -> int:
        """Events of each kind that a bundle keeps for each shopper: enough for every history feature."""
        lengths = [feature.length for feature in self.query if isinstance(feature, History)]
        return max([self.history_length, *lengths])
