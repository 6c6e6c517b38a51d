"""What an evaluation found, as data: written to a file, logged, compared, drawn as tables."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from twinspire.evaluation.bootstrap import Estimate

Figures = dict[str, dict[str, Estimate]]


class Section(BaseModel):
    """Figures over one set of cases (or judged pairs).

    `systems` maps a system's name to its metrics; `differences` maps `<one system> - <other>` to the
    metrics' differences on the same cases, the first system's from each other one at least. `cases` counts
    cases or judged pairs, `queries` their distinct normalised queries.
    """

    model_config = ConfigDict(extra="forbid")

    description: str
    cases: int
    queries: int
    systems: Figures
    differences: Figures


class Report(BaseModel):
    """An evaluation: `slices` over clicks, and `judgements` where there are judged pairs."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    items: int
    cases: int
    cases_evaluated: int
    seed: int
    resamples: int
    slices: dict[str, Section]
    judgements: Section | None = None

    def value(self, system: str, metric: str, where: str = "all") -> float | None:
        """One figure: `where` is a slice's name or `judgements`. KeyError if there is no such figure."""
        section = self.slices.get(where)
        if where == "judgements":
            section = self.judgements
        if section is None:
            raise KeyError(where)
        return section.systems[system][metric].value
