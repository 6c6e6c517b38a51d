from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from twinspire.errors import ConfigError
from twinspire.evaluation.bootstrap import Estimate
from twinspire.evaluation.figures import alpha, heads, items, style
from twinspire.evaluation.figures.page import Part, write_page
from twinspire.evaluation.figures.projection import above, plane, purity, sample

GROUPS, EACH, DIM = 3, 25, 8


def clusters(seed: int = 0) -> np.ndarray:
    """Unit vectors of three groups, in order, each around an axis of its own."""
    rng = np.random.default_rng(seed)
    vectors = np.repeat(np.eye(DIM)[:GROUPS], EACH, axis=0) + rng.normal(0, 0.08, (GROUPS * EACH, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def catalogue() -> pl.DataFrame:
    names = [f"Shop > {name}" for name in ("Phones", "Fruit", "Shoes") for _ in range(EACH)]
    return pl.DataFrame(
        {"title": [f"item {n} <b>" for n in range(len(names))], "category": names, "clicks": range(len(names))}
    )


def labels() -> pl.Series:
    return catalogue()["category"].str.split(" > ").list.last().alias("label")


@pytest.fixture(scope="module")
def by_category() -> items.ItemMap:
    departments = pl.Series(["Shop"] * len(catalogue()))
    return items.item_map(clusters(), catalogue()["title"], labels(), departments, size=60)


@pytest.fixture(scope="module")
def by_head() -> heads.HeadMap:
    queries = {"apple": np.eye(DIM, dtype=np.float32)[:2], "phone": np.eye(DIM, dtype=np.float32)[[0, 0]]}
    return heads.head_map(queries, clusters(), catalogue(), labels(), labels(), k=10)


def check_png(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.width == style.WIDTH_INCHES * style.DPI
        colours = image.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 10, "something is drawn"
    assert path.stat().st_size < 200_000


def test_neighbours_share_a_group_where_groups_lie_apart() -> None:
    groups = np.repeat(np.arange(GROUPS), EACH)
    assert purity(clusters(), groups)[0] == 1
    near, chance = purity(clusters(), np.random.default_rng(0).permutation(groups))
    assert chance == pytest.approx(24 / 74)
    assert near == pytest.approx(chance, abs=0.12)


def test_the_plane_keeps_neighbours_and_the_seed_decides_it() -> None:
    points = plane(clusters(), seed=1)
    assert points.shape == (GROUPS * EACH, 2)
    assert np.abs(points).max() == pytest.approx(1)
    np.testing.assert_array_equal(points, plane(clusters(), seed=1))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + 10 * np.eye(len(points))
    assert (distance.argmin(1) // EACH == np.arange(len(points)) // EACH).mean() > 0.95
    with pytest.raises(ValueError, match="5 points, not 4"):
        plane(clusters()[:4], seed=0)


def test_a_sample_leaves_out_what_has_no_group() -> None:
    groups = np.array([-1, 0, 1, -1, 2, 0])
    assert sample(groups, 10, seed=0).tolist() == [1, 2, 4, 5]
    assert len(sample(groups, 3, seed=0)) == 3


def test_a_name_stands_above_the_denser_of_two_clusters() -> None:
    dense, far = np.random.default_rng(0).normal(0, 0.01, (30, 2)), np.full((5, 2), 5.0)
    place = above(np.concatenate([dense, far]), gap=0.1)
    assert place == pytest.approx([0, 0.1], abs=0.05)


def test_labels_spread_until_none_overlap() -> None:
    places = style.spread(np.zeros((4, 2)) + np.arange(4)[:, None] * 0.01, np.full((4, 2), 0.2), rounds=2000)
    apart = np.abs(places[:, None] - places[None]).max(2) + np.eye(4)
    assert apart.min() > 0.15


def test_the_item_map_says_how_pure_it_is_and_is_drawn(by_category: items.ItemMap, tmp_path: Path) -> None:
    assert by_category.points.shape == (60, 2)
    assert set(by_category.categories) == {"Phones", "Fruit", "Shoes"}
    assert "100%" in by_category.title
    check_png(items.draw(by_category, tmp_path / "items.png"))


def test_items_of_one_category_make_no_picture() -> None:
    same = pl.Series("label", ["Phones"] * GROUPS * EACH)
    with pytest.raises(ConfigError, match=r"--by: .* 1 categor"):
        items.item_map(clusters(), catalogue()["title"], same, same)


def test_the_head_map_tells_heads_apart(by_head: heads.HeadMap, tmp_path: Path) -> None:
    apple, phone = by_head.queries
    assert apple.described == ("Phones 10", "Fruit 10")
    assert apple.overlap == 0
    assert phone.overlap == 1
    assert [name.split(":")[0] for name, *_ in apple.layers] == ["head 1", "head 2"]
    assert [len(rows) for _, rows, *_ in phone.layers] == [0, 0, 10]
    check_png(heads.draw(by_head, tmp_path / "heads.png"))


def test_one_head_makes_a_picture_and_says_so(tmp_path: Path) -> None:
    chart = heads.head_map(
        {"apple": np.eye(DIM, dtype=np.float32)[:1]}, clusters(), catalogue(), labels(), labels(), k=10
    )
    assert chart.title == "One head finds everything"
    check_png(heads.draw(chart, tmp_path / "one.png"))


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 1, high=value + 1)


def test_the_curves_of_alpha_are_drawn(tmp_path: Path) -> None:
    curves = [
        alpha.Curve(
            name=name, alphas=(0, 1), metrics={"m": (estimate(1), estimate(last))}, change={"m": estimate(last - 1)}
        )
        for name, last in (("rising", 5.0), ("flat", 1.0))
    ]
    check_png(alpha.draw(curves, {"m": "A metric"}, "A finding", "How to read it", tmp_path / "alpha.png"))
    assert alpha.verdict(curves[0].change["m"]) == "+4.0"
    assert alpha.verdict(curves[1].change["m"]) == "no change"
    assert alpha.verdict(estimate(-3.0)) == "-3.0"
    assert len(alpha.interactive(curves, {"m": "A metric"}).data) == 2


def test_the_page_is_one_file_that_needs_no_network(
    by_category: items.ItemMap, by_head: heads.HeadMap, tmp_path: Path
) -> None:
    parts = [
        Part(by_category.title, "a < b", items.interactive(by_category)),
        Part("Heads", "", heads.interactive(by_head)),
    ]
    text = write_page(tmp_path / "new" / "page.html", "Bundle <x>", parts).read_text()
    assert "<title>Bundle &lt;x&gt;</title>" in text
    assert "a &lt; b" in text
    assert 'id="picture-1"' in text
    assert 'id="picture-2"' in text
    assert 'src="http' not in text
    assert text.count("plotly.js v") == 1
