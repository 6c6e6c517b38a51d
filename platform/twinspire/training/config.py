"""Config of the training room."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class NegativeConfig(BaseModel):
    """Hybrid negatives (4.4): how many a query meets, and how they mix. Independent of the batch size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hybrid", "impressions"] = Field(
        "hybrid", description="impressions: unclicked impressions of the query's own search, and nothing else (DSSM)"
    )
    count: int = Field(256, ge=1, le=65_536, description="negatives of each query; of impressions, at the most")
    alpha: float = Field(0.5, ge=0, le=1, description="share of random negatives; the rest are batch negatives")

    @property
    def random(self) -> int:
        """Random negatives of each query: one set, shared by the batch."""
        return round(self.alpha * self.count) if self.kind == "hybrid" else 0

    @property
    def batch(self) -> int:
        """Negatives of each query that follow the items' frequency in the log."""
        return self.count - self.random if self.kind == "hybrid" else 0

    def beyond_batch(self, batch_size: int) -> int:
        """Batch negatives that a batch is too small for; they are drawn from other rows of the log."""
        return max(0, self.batch - (batch_size - 1))


class TrainingConfig(BaseModel):
    """The training run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: int = Field(128, ge=2, le=65_536, description="positives a step and worker")
    rounds: int = Field(8, ge=1, le=10_000, description="passes over the log at most")
    patience: int = Field(2, ge=1, description="rounds without a better validation MRR before stopping")
    refit: bool = Field(True, description="train again on all positives, for as many rounds as were best")
    learning_rate: float = Field(0.02, gt=0, description="of Adagrad, at the start")
    start: Literal["auto", "full", "warm"] = Field(
        "full",
        description="where there is an earlier bundle to begin with: full begins anew; warm takes its weights, in half "
        "the time and with less quality (benchmarks.warm_start); auto is warm where its dictionaries permit, and full "
        "now and then",
    )
    warm_rounds: int = Field(2, ge=1, le=10_000, description="passes over the log after a warm start")
    warm_learning_rate: float = Field(0.01, gt=0, description="of Adagrad, after a warm start")
    full_every: int = Field(7, ge=1, description="auto: at most so many warm starts in a row, less one")
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="linear: the rate falls to zero over `rounds`"
    )
    workers: int = Field(1, ge=1, le=4096, description="Ray Train workers")
    device: Literal["cpu", "cuda"] = "cpu"
    tables: Literal["whole", "sharded"] = Field(
        "whole",
        description="sharded: each worker holds a part of every table's rows (GPUs) or some of the tables (CPUs); "
        "needs the extra gpu-sharded",
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads a worker; steps are small, more workers gain more")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the layers behind the tables; auto: bfloat16 on a GPU that has it, float32 on a CPU"
    )
    compile: Literal["auto"] | bool = Field("auto", description="torch.compile those layers; auto: on a GPU")
    max_failures: int = Field(3, ge=0, description="restarts in a row that reach no new checkpoint")
    checkpoint_minutes: float = Field(5, gt=0, description="a checkpoint at least so often, and after each round")
    seed: int = 0
    experiment: str = Field("twinspire", min_length=1, description="MLflow experiment")
