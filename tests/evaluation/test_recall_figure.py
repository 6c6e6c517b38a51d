from pathlib import Path

import pytest
from PIL import Image

from twinspire.evaluation.figures import recall
from twinspire.index.tune import Measured


def point(factory: str, nprobe: int, refine: float, share: float, items: int = 1000, **marks: bool) -> Measured:
    return Measured(
        factory=factory,
        parameters=f"nprobe={nprobe},refine={refine:g}",
        items=items,
        recall=share,
        ms=nprobe / 10 + refine / 100,
        reaches=share >= 0.95,
        **marks,
    )


TRIED = [
    point(factory, nprobe, 1, nprobe / wide, trial=True)
    for factory, wide in (("IVF64,SQ8", 20), ("HNSW32", 40))
    for nprobe in (4, 8, 19)
]
FINAL = [
    point("IVF128,SQ8", 10, 1, 0.8, items=9000),
    point("IVF128,SQ8", 12, 1, 0.7, items=9000),
    point("IVF128,SQ8", 19, 2, 0.96, items=9000, chosen=True),
    point("IVF128,SQ8", 30, 2, 0.97, items=9000),
]


def test_kinds_and_settings_are_apart_and_lines_rise() -> None:
    chart = recall.recall_chart([*TRIED, *FINAL], 0.95)
    assert chart is not None
    kinds, settings = chart.panels
    assert list(kinds.lines) == ["IVF64,SQ8", "HNSW32"]
    assert [len(line) for line in settings.lines.values()] == [1, 2]
    for panel in chart.panels:
        for line in panel.lines.values():
            assert [one.recall for one in line] == sorted(one.recall for one in line)
            assert [one.ms for one in line] == sorted(one.ms for one in line)
    assert list(settings.lines) == ["1 K", "2 K"]
    assert chart.floor < 19 / 40
    assert "0.960" in chart.title
    assert "nprobe=19,refine=2" in chart.detail


def test_each_k_that_was_tuned_for_has_its_panel_and_its_star() -> None:
    deep = [one.model_copy(update={"k": 1000, "parameters": "nprobe=40,refine=1.25"}) for one in FINAL]
    chart = recall.recall_chart([*TRIED, *FINAL, *deep], 0.95)
    assert chart is not None
    assert [panel.chosen and panel.chosen.k for panel in chart.panels] == [None, 100, 1000]
    assert chart.chosen.k == 100
    assert "nprobe=19,refine=2; nprobe=40,refine=1.25" in chart.detail


def test_a_given_kind_has_one_panel_and_an_exact_index_none() -> None:
    chart = recall.recall_chart(FINAL, 0.95)
    assert chart is not None
    assert len(chart.panels) == 1
    assert recall.recall_chart([], 0.95) is None


@pytest.mark.parametrize("curve", [FINAL, TRIED + FINAL])
def test_it_is_drawn(curve: list[Measured], tmp_path: Path) -> None:
    chart = recall.recall_chart(curve, 0.95)
    assert chart is not None
    with Image.open(recall.draw(chart, tmp_path / "recall.png")) as image:
        assert image.width > 1000
    assert len(recall.interactive(chart).data) == sum(len(panel.lines) for panel in chart.panels)
