import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from twinspire.bundle import Bundle
from twinspire.cli import COMMANDS, cli
from twinspire.errors import TwinspireError
from twinspire.features.query import Query, Shopper

TABLE = {
    "query": ["red shoes", "blue mug", "red shoes"],
    "item_id": ["i0", "i1", "i119"],
    "user_id": ["u0", None, "nobody"],
}


class Shell:
    def __init__(self, bundle: Path, folder: Path) -> None:
        self.bundle, self.folder, self.out = bundle, folder, folder / "out" / "r.parquet"

    def run(self, command: str, table: pl.DataFrame | Path, *more: str) -> Result:
        path = self.folder / "in.parquet" if isinstance(table, pl.DataFrame) else table
        if isinstance(table, pl.DataFrame):
            table.write_parquet(path)
        option = {"search": "--queries", "score": "--pairs"}[command]
        arguments = [command, "--bundle", str(self.bundle), option, str(path), "--out", str(self.out), *more]
        return CliRunner().invoke(cli, arguments)

    def done(self, command: str, table: pl.DataFrame, *more: str) -> pl.DataFrame:
        result = self.run(command, table, *more)
        assert result.exit_code == 0, result.output
        return pl.read_parquet(self.out)

    def refused(self, command: str, table: pl.DataFrame | Path, *more: str) -> str:
        result = self.run(command, table, *more)
        assert isinstance(result.exception, TwinspireError), result.exception
        assert "\n" not in str(result.exception)
        assert not self.out.exists()
        return str(result.exception)


@pytest.fixture
def shell(tiny_bundle: Path, tmp_path: Path) -> Shell:
    return Shell(tiny_bundle, tmp_path)


def test_search_writes_the_contracts_columns(shell: Shell, tiny_bundle: Path) -> None:
    found = shell.done("search", pl.DataFrame(TABLE).select("query", "user_id"), "--k", "7")
    assert found.columns == ["row", "rank", "item_id", "score"]
    assert found["row"].to_list() == [row for row in range(3) for _ in range(7)]
    assert found["rank"].to_list() == list(range(1, 8)) * 3
    bundle = Bundle.load(tiny_bundle)
    direct = bundle.search([Query("red shoes", Shopper("u0")), Query("blue mug"), Query("red shoes")], 7)
    assert found["item_id"].to_list() == [bundle.item_ids[row] for row in direct.items.ravel()]
    np.testing.assert_allclose(found["score"], direct.scores.ravel(), atol=1e-6)


def test_score_writes_the_pairs_with_what_search_ranks_by(shell: Shell) -> None:
    pairs = pl.DataFrame(TABLE | {"note": ["x", "y", "z"]}).select("note", "item_id", "query", "user_id")
    scored = shell.done("score", pairs)
    assert scored.drop("score").equals(pairs)
    assert scored.columns[-1] == "score"
    everything = shell.done("search", pairs, "--k", "120").join(
        pairs.with_row_index("row").select(pl.col("row").cast(pl.Int64), "item_id"), on=["row", "item_id"]
    )
    np.testing.assert_allclose(scored["score"], everything.sort("row")["score"], atol=1e-6)


def test_k_beyond_the_catalogue_gives_the_catalogue(shell: Shell) -> None:
    found = shell.done("search", pl.DataFrame({"query": ["red"]}), "--k", "500")
    assert len(found) == found["item_id"].n_unique() == 120
    assert found["score"].is_finite().all()


def test_empty_tables_give_empty_tables(shell: Shell) -> None:
    assert shell.done("search", pl.DataFrame(TABLE).head(0)).columns == ["row", "rank", "item_id", "score"]
    assert shell.done("score", pl.DataFrame(TABLE).head(0)).columns == [*TABLE, "score"]


def test_odd_but_legal_tables(shell: Shell) -> None:
    odd = pl.DataFrame({"query": pl.Series(["red", "42"], dtype=pl.Categorical), "user_id": [1, None]})
    assert len(shell.done("search", odd, "--k", "2")) == 4
    assert len(shell.done("search", pl.DataFrame({"query": [42]}), "--k", "2")) == 2


@pytest.mark.parametrize("command", ["search", "score"])
@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"query": None}, "'query'"),
        ({"query": ["red", "", "x"]}, "row 1"),
        ({"query": ["red", "x", " \u3000\t"]}, "row 2"),
        ({"query": ["red", None, None]}, "row 1 has an empty query (2 such rows)"),
        ({"query": [1.5, 2.5, 3.5]}, "Float64"),
        ({"user_id": [[1], [2], [3]]}, "'user_id'"),
    ],
)
def test_a_bad_table_is_one_line_that_names_the_place(shell: Shell, command: str, columns: dict, says: str) -> None:
    table = {name: values for name, values in (TABLE | columns).items() if values is not None}
    assert says in shell.refused(command, pl.DataFrame(table))


def test_an_unknown_item_is_named_with_its_row(shell: Shell) -> None:
    message = shell.refused("score", pl.DataFrame(TABLE | {"item_id": ["i0", "gone", "gone"]}))
    assert "row 1" in message
    assert "'gone'" in message
    assert "2 such rows" in message
    assert "row 2" in shell.refused("score", pl.DataFrame(TABLE | {"item_id": ["i0", "i1", None]}))
    assert "'item_id'" in shell.refused("score", pl.DataFrame(TABLE).drop("item_id"))


@pytest.mark.parametrize("command", ["search", "score"])
def test_an_unreadable_file_is_named(shell: Shell, command: str) -> None:
    assert "none.parquet" in shell.refused(command, shell.folder / "none.parquet")
    (shell.folder / "text.parquet").write_text("query\nred\n")
    assert "text.parquet" in shell.refused(command, shell.folder / "text.parquet")
    (shell.folder / "empty.parquet").write_bytes(b"")
    assert "empty.parquet" in shell.refused(command, shell.folder / "empty.parquet")


@pytest.mark.parametrize("command", ["search", "score"])
def test_an_out_that_cannot_be_written_is_named(shell: Shell, command: str) -> None:
    (shell.folder / "out").write_text("a file, where a folder is wanted")
    result = shell.run(command, pl.DataFrame(TABLE))
    assert isinstance(result.exception, TwinspireError)
    assert "--out" in str(result.exception)
    assert "None" not in str(result.exception)
    shell.out = shell.folder
    result = shell.run(command, pl.DataFrame(TABLE))
    assert isinstance(result.exception, TwinspireError)
    assert not list(shell.folder.parent.glob(".*.new"))


def test_no_bundle_is_said(shell: Shell) -> None:
    shell.bundle = shell.folder
    assert "manifest.json" in shell.refused("search", pl.DataFrame(TABLE))


@pytest.mark.parametrize("k", ["0", "-1", "many", "1000001"])
def test_k_has_bounds(shell: Shell, k: str) -> None:
    result = shell.run("search", pl.DataFrame(TABLE), "--k", k)
    assert result.exit_code == 2
    assert "--k" in result.output


def test_a_mistake_ends_with_one_line_and_two(tmp_path: Path) -> None:
    arguments = ["search", "--bundle", str(tmp_path), "--queries", "q", "--out", "r"]
    main = "from twinspire.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", main, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip().count("\n") == 0
    assert ended.stderr.startswith("error: queries: q does not exist")


@pytest.mark.parametrize("command", ["search", "score", "fit"])
def test_help_ends_in_examples(command: str) -> None:
    assert command in COMMANDS
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert f"twinspire {command} --" in result.output.split("Examples:")[1]


def test_search_finds_only_what_the_filters_allow(shell: Shell, tiny_bundle: Path) -> None:
    asked = pl.DataFrame({"query": ["red shoes", "mug"]})
    items = Bundle.load(tiny_bundle).items
    some = ("--filter", "category=shop > home", "--filter", "brand=acme", "--filter", "brand=delta")
    found = shell.done("search", asked, "--k", "100", *some).join(items, on="item_id")
    expected = items.filter(pl.col("category") == "shop > home", pl.col("brand").is_in(["acme", "delta"]))
    for row in range(2):
        assert set(found.filter(pl.col("row") == row)["item_id"]) == set(expected["item_id"])
    found = shell.done("search", asked, "--k", "100", "--filter", "price=20..40", "--filter", "category=shop")
    assert set(found["item_id"]) == set(items.filter(pl.col("price").is_between(20, 40))["item_id"])


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        (["brand"], "write COLUMN=VALUE"),
        (["colour=red"], "filters.colour: cannot be filtered by; columns that can: brand, category, price"),
        (["price=cheap"], "write a number, or FROM..TO"),
        (["price=1..2", "price=4"], "a column has one range"),
        (["price=.."], "filters.price: give min, max or both"),
    ],
)
def test_filters_that_cannot_be_are_refused(shell: Shell, filters: list[str], says: str) -> None:
    options = [part for one in filters for part in ("--filter", one)]
    assert says in shell.refused("search", pl.DataFrame({"query": ["red"]}), *options)
