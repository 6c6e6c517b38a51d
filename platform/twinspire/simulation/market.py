"""The market's world, from market.yaml, as arrays: categories, product types, attribute values, words for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from twinspire.simulation.arrays import Doubles, Floats, Ints

AUDIENCES = ("none", "women", "men", "kids", "senior", "all")
TIERS = ("low", "mid", "high")
GENDERS = ("female", "male")
SLOTS = ("before", "after", "size", "colour")
FORM_KINDS = ("category", "type", "use", "need")

# What a type's forms weigh against each other when a shopper who wants an item of this type finds words for it.
_FORM_SHARE = {"category": 0.36, "title": 0.24, "type": 0.24, "use": 0.13, "need": 0.03}
_SIBLING_GRADE = 0.33


@dataclass(frozen=True)
class Forms:
    """How shoppers name what they want: one row a (product type, phrase), sorted by type."""

    text: list[str]
    target: Ints  # row of Market.targets: what the phrase asks for
    kind: Ints  # index of FORM_KINDS
    audience: Ints  # audience that the phrase implies, -1: none
    ends: Doubles  # running sum of weights
    offsets: Ints  # (T + 1,) rows of each type


@dataclass(frozen=True)
class Market:
    """Facts of the world, C categories, T product types, G query targets, V attribute values."""

    raw: dict[str, Any]
    departments: list[str]
    categories: list[str]
    types: list[str]
    values: list[str]
    category_department: Ints  # (C,)
    type_category: Ints  # (T,)
    type_share: Doubles  # (T,) share of its category's items
    demand: Doubles  # (C,)
    price: Doubles  # (T,) median price of the middle tier
    lean: Floats  # (2, 5, C) liking of a category by gender and age band, log units
    audience_share: Doubles  # (T, 6)
    slots: list[list[list[int]]]  # [T][slot] -> value rows
    targets: Floats  # (G, T) grade of a type under a target; row 0 is "any type"
    forms: Forms


def _flat_categories(raw: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(d, c, body) for d, many in raw["departments"].items() for c, body in many.items()]


def _slots(
    raw: dict[str, Any], bodies: list[dict[str, Any]], types: list[tuple[str, int, dict[str, Any]]]
) -> tuple[list[str], list[list[list[int]]]]:
    values: dict[str, int] = {}
    slots = []
    for _, category, own in types:
        body = {**bodies[category], **own}  # a type may replace its category's slots
        lists = [body["before"], body["after"], body["size"], raw["palettes"].get(body.get("colours"), [])]
        slots.append([[values.setdefault(str(v), len(values)) for v in slot] for slot in lists])
    return list(values), slots


def _audiences(categories: list[dict[str, Any]], types: list[tuple[int, dict[str, Any]]]) -> Doubles:
    shares = np.zeros((len(types), len(AUDIENCES)))
    for row, (category, body) in enumerate(types):
        given = {body["audience"]: 1.0} if "audience" in body else categories[category].get("audience", {"none": 1.0})
        for audience, share in given.items():
            shares[row, AUDIENCES.index(audience)] = share
    return shares


def _forms(
    raw: dict[str, Any], bodies: list[dict[str, Any]], types: list[tuple[str, int, dict[str, Any]]]
) -> tuple[Forms, Floats]:
    """The phrases of every type, and the targets they point to: any, then types, then categories, then needs."""
    count, owner = len(types), np.array([category for _, category, _ in types])
    names = [name for name, _, _ in types]
    targets = [np.ones(count)]
    targets += [np.where(np.arange(count) == t, 1.0, (owner == owner[t]) * _SIBLING_GRADE) for t in range(count)]
    targets += [(owner == c).astype(float) for c in range(len(bodies))]
    needs = raw["needs"]
    targets += [np.isin(names, need["types"]).astype(float) for need in needs]
    rows: list[tuple[str, int, int, int, float]] = []
    offsets = [0]
    for row, (name, category, body) in enumerate(types):
        groups: list[tuple[str, list[str], int, str, int]] = [
            ("category", bodies[category]["say"], 1 + count + category, "category", -1),
            ("title", [t.lower() for t in body["title"]], 1 + row, "type", -1),
            ("type", body["say"], 1 + row, "type", -1),
            ("use", body["use"], 1 + row, "use", -1),
        ]
        for number, need in enumerate(needs):
            if name in need["types"]:
                audience = AUDIENCES.index(need["audience"]) if "audience" in need else -1
                groups.append(("need", need["say"], 1 + count + len(bodies) + number, "need", audience))
        shares = dict(_FORM_SHARE)
        shares["type"] *= bodies[category].get("named_by_type", 1.0)
        for share, texts, target, kind, audience in groups:
            weights = 1.0 / np.arange(1, len(texts) + 1) ** 0.7  # the first word of a list is the usual one
            weights *= shares[share] / weights.sum()
            rows += [(t, target, FORM_KINDS.index(kind), audience, w) for t, w in zip(texts, weights, strict=True)]
        offsets.append(len(rows))
    texts_, targets_, kinds_, audiences_, weights_ = zip(*rows, strict=True)
    forms = Forms(
        text=list(texts_),
        target=np.array(targets_, dtype=np.int32),
        kind=np.array(kinds_, dtype=np.int32),
        audience=np.array(audiences_, dtype=np.int32),
        ends=np.cumsum(weights_, dtype=np.float64),
        offsets=np.array(offsets, dtype=np.int32),
    )
    return forms, np.array(targets, dtype=np.float32)


@lru_cache(maxsize=1)
def load_market() -> Market:
    """The world that ships with the package."""
    raw = yaml.safe_load(resources.files("twinspire.simulation").joinpath("market.yaml").read_text("utf-8"))
    flat = _flat_categories(raw)
    departments, categories = list(raw["departments"]), [c for _, c, _ in flat]
    bodies = [body for _, _, body in flat]
    types = [(name, c, body) for c, category in enumerate(categories) for name, body in raw["types"][category].items()]
    owner = np.array([c for _, c, _ in types], dtype=np.int32)
    weight = np.array([body["w"] for _, _, body in types], dtype=float)
    lean = np.array([body["lean"][0] for body in bodies], dtype=np.float32).T[:, None, :]
    ages = np.array([body["lean"][1] for body in bodies], dtype=np.float32).T[None, :, :]
    values, slots = _slots(raw, bodies, types)
    forms, targets = _forms(raw, bodies, types)
    return Market(
        raw=raw,
        departments=departments,
        categories=categories,
        types=[name for name, _, _ in types],
        values=values,
        category_department=np.array([departments.index(d) for d, _, _ in flat], dtype=np.int32),
        type_category=owner,
        type_share=weight / np.bincount(owner, weight)[owner],
        demand=np.array([body["demand"] for body in bodies], dtype=float),
        price=np.array([bodies[c]["price"] * body.get("price", 1.0) for _, c, body in types], dtype=float),
        lean=lean + ages,
        audience_share=_audiences(bodies, [(c, body) for _, c, body in types]),
        slots=slots,
        targets=targets,
        forms=forms,
    )
