"""What is measured of a unit, declared as the ratio of two sums over units.

A metric is `sum of numerator / sum of denominator`; with the denominator `units` it is a mean a unit. Both are one of
`FACTS`, the sums of a unit's events from its first exposure on, or `any FACT`, which is 1 for a unit that has some.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FACTS = {
    "units": "1 for each unit",
    "searches": "searches answered, a repeated query counted once",
    "clicked_searches": "searches with a click before the unit's next search, within half an hour",
    "rewritten_searches": "searches followed by another query within `rewrite_minutes`, with no click between",
    "empty_searches": "searches that found nothing",
    "clicks": "clicks",
    "carts": "items put into the cart",
    "purchases": "items bought",
    "value": "money of the purchases",
}
ANY = "any "


class Metric(BaseModel):
    """One metric: two facts, which way is better, and how a reader is told of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numerator: str
    denominator: str = "units"
    better: Literal["higher", "lower"] = "higher"
    title: str = ""  # what it is called in a report
    gloss: str = ""  # what it means, in a sentence
    form: Literal["share", "number", "money"] = "number"

    @field_validator("numerator", "denominator")
    @classmethod
    def _is_known(cls, fact: str) -> str:
        if fact.removeprefix(ANY) not in FACTS:
            raise ValueError(f"{fact!r} is not known; known are {', '.join(FACTS)}, each also as 'any FACT'")
        return fact

    @property
    def facts(self) -> tuple[str, str]:
        """The facts that it is made of, without `any`."""
        return self.numerator.removeprefix(ANY), self.denominator.removeprefix(ANY)

    @property
    def heavy_tailed(self) -> bool:
        """Whether a few units can hold much of the sum, so that its interval is bootstrapped."""
        return self.numerator == "value"


BUILT_IN = {
    "ucvr": Metric(
        numerator="any purchases",
        title="Conversion",
        gloss="share of users who buy (UCVR)",
        form="share",
    ),
    "gmv_per_user": Metric(numerator="value", title="Sales a user", gloss="money spent a user (GMV)", form="money"),
    "qrr": Metric(
        numerator="rewritten_searches",
        denominator="searches",
        better="lower",
        title="Query rewrites",
        gloss="share of searches that shoppers give up and phrase anew within minutes, without a click (QRR)",
        form="share",
    ),
    "ctr": Metric(
        numerator="clicked_searches",
        denominator="searches",
        title="Click-through",
        gloss="share of searches that lead to a click",
        form="share",
    ),
    "purchases_per_user": Metric(numerator="purchases", title="Purchases a user", gloss="items bought a user"),
    "cart_rate": Metric(
        numerator="any carts", title="Cart rate", gloss="share of users who put something into the cart", form="share"
    ),
    "empty_rate": Metric(
        numerator="empty_searches",
        denominator="searches",
        better="lower",
        title="Empty searches",
        gloss="share of searches that find nothing",
        form="share",
    ),
}


class MetricsConfig(BaseModel):
    """What an experiment decides by, and what it looks at beside."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    primary: str = "ucvr"
    secondary: tuple[str, ...] = ("gmv_per_user", "qrr", "ctr")
    declared: dict[str, Metric] = {}
    rewrite_minutes: float = Field(default=5.0, gt=0, le=60)

    @model_validator(mode="after")
    def _are_known(self) -> MetricsConfig:
        for name in (self.primary, *self.secondary):
            if name not in BUILT_IN and name not in self.declared:
                known = ", ".join([*BUILT_IN, *self.declared])
                raise ValueError(f"{name!r} is not a metric; known are {known}; declare others in metrics.declared")
        if len(set(self.names)) != len(self.names):
            raise ValueError("a metric is named twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The primary metric, then the others."""
        return (self.primary, *self.secondary)

    def metric(self, name: str) -> Metric:
        """A metric by name, with a title."""
        found = self.declared.get(name) or BUILT_IN[name]
        return found if found.title else found.model_copy(update={"title": name.replace("_", " ").capitalize()})
