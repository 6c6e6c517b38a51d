from twinspire.bundle import tidy


def test_half_written_bundles_go_and_a_bundle_that_was_moved_away_comes_back(tmp_path):
    for name in (".shop.12.new", ".shop.12.old", ".shop.12.work", ".shop.v2.12.old", ".shop.v2.12.new"):
        (tmp_path / name).mkdir()
    (tmp_path / ".shop.12.old" / "manifest.json").write_text("{}")
    tidy(tmp_path / "shop")
    assert (tmp_path / "shop" / "manifest.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"shop", ".shop.12.work", ".shop.v2.12.old", ".shop.v2.12.new"}
    (tmp_path / ".shop.13.old").mkdir()
    tidy(tmp_path / "shop")
    assert (tmp_path / "shop" / "manifest.json").is_file()
    assert not (tmp_path / ".shop.13.old").exists()
