import shutil

from twinspire import dataset


def test_content_counts_and_the_place_does_not(shop, items, interactions, tmp_path):
    folder = shop(interactions=[interactions(), interactions()])
    first = dataset.read(folder).fingerprint
    assert len(first) == 64

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "interactions" / "part-1.parquet").rename(copy / "interactions" / "part-9.parquet")
    (copy / "notes.txt").write_text("not a table")
    assert dataset.read(copy).fingerprint == first

    interactions(query=["x", "y", "z"]).write_parquet(copy / "interactions" / "part-9.parquet")
    assert dataset.read(copy).fingerprint != first
    (copy / "interactions" / "part-9.parquet").unlink()
    assert dataset.read(copy).fingerprint != first
