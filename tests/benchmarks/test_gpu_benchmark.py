"""The measuring functions of `benchmarks.gpu`, on a CPU and small; and what it says where there is no GPU."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from benchmarks import gpu
from twinspire.index.tune import one_thread


def test_kinds_that_can_be_built_on_a_cpu_are_measured(monkeypatch):
    monkeypatch.setattr(gpu, "ALONE", 20)
    monkeypatch.setattr(gpu, "at_size", lambda family, items, device: "IVF16,PQ8np")
    vectors, queries = gpu.drawn(4000, 60, 16)
    cpu = torch.device("cpu")
    assert gpu.kinds(cpu) == ["IVF-PQ", gpu.WHOLE]
    with one_thread():
        rows = [gpu.figures(kind, vectors, queries, cpu, 0.01) for kind in gpu.kinds(cpu)]
    for row in rows:
        assert row["items"] == 4000
        assert row["recall_at_100"] >= 0.9
        assert row["alone_ms"]["p99"] >= row["alone_ms"]["p50"] > 0
        assert min(row["queries_a_second"].values()) > 0
    assert rows[1]["recall_at_100"] >= 0.999
    console = Console(width=200, record=True)
    gpu.show(rows, console)
    assert "1,422" in console.export_text()


def test_drawn_vectors_are_of_length_1_and_the_same_every_time():
    vectors, queries = gpu.drawn(1000, 10, 8)
    assert (vectors.shape, queries.shape, vectors.dtype) == ((1000, 8), (10, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, gpu.drawn(1000, 10, 8)[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    result = CliRunner().invoke(gpu.main, ["--items", "1000"])
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert "device cuda" in line
