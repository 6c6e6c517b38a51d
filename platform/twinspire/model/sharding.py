"""Tables that are too large for one GPU: TorchRec splits them by rows (paper, 5.1.3).

Each worker holds a share of every table's rows and looks up and adds up what all workers need of them: between machines
go the pooled embeddings, not their tokens' rows, and no gradient of a row. Needs the extra `gpu-sharded`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from twinspire.errors import EnvironmentProblem
from twinspire.model.encoders import table_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twinspire.model.bags import Bag, Features
    from twinspire.model.encoders import BagEncoder
    from twinspire.model.towers import Architecture, Tower, TwoTower

EXTRA = "gpu-sharded"
PIECE_BYTES = 1 << 26  # of a table on its way to rank 0: no GPU has room for all of it


def check_torchrec() -> None:
    """Errors: EnvironmentProblem where the extra is not installed, or built for another PyTorch."""
    try:
        for package in ("fbgemm_gpu", "torchrec"):
            import_module(package)
    except ImportError:
        raise EnvironmentProblem(
            f"sharded tables need TorchRec; install twinspire with the extra: twinspire[{EXTRA}]"
        ) from None
    except OSError as error:
        raise EnvironmentProblem(
            f"sharded tables need an FBGEMM built for this PyTorch, {torch.__version__}: fbgemm-gpu for one with CUDA, "
            f"fbgemm-gpu-cpu for one without ({' '.join(str(error).split())})"
        ) from error


class ShardableTwoTower(nn.Module):
    """A TwoTower over one TorchRec collection of tables, which `shard` can split. Computes what `plain` does.

    All bags of a batch go in one call, so that one exchange of pooled embeddings serves both towers: the side with
    fewer examples is filled up with empty bags.
    """

    def __init__(self, architecture: Architecture, plain: TwoTower) -> None:
        """Takes over the towers of `plain` and copies its tables' rows. Errors: EnvironmentProblem without TorchRec."""
        super().__init__()
        check_torchrec()
        import torchrec

        sides = (("query", architecture.query), ("item", architecture.item))
        self.keys = {side: [f"{side}:{slot.feature}" for slot in slots] for side, slots in sides}
        reads = {f"{side}:{slot.feature}": slot.table for side, slots in sides for slot in slots}
        self.tables = torchrec.EmbeddingBagCollection(
            tables=[
                torchrec.EmbeddingBagConfig(
                    name=table_key(name),
                    embedding_dim=architecture.config.dim,
                    num_embeddings=rows,
                    feature_names=[key for key, table in reads.items() if table == name],
                    pooling=torchrec.PoolingType.SUM,
                )
                for name, rows in architecture.tables.items()
            ],
            is_weighted=True,  # of a mean, one over the bag's length
        )
        self.query_tower, self.item_tower = plain.query_tower, plain.item_tower
        with torch.no_grad():
            for name, table in plain.tables.items():
                self.tables.embedding_bags[name].weight.copy_(table.weight)

    def forward(self, queries: Features, items: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of B queries and M items to (B, H, D) and (M, D)."""
        named = [queries[name] for name in self.query_tower.names], [items[name] for name in self.item_tower.names]
        size = max(len(bags[0].offsets) - 1 for bags in named)
        pooled = self.tables(keyed([*self.keys["query"], *self.keys["item"]], [*named[0], *named[1]], size)).to_dict()
        query_vectors = _combine(self.query_tower, [pooled[key] for key in self.keys["query"]], named[0])
        item_vectors = _combine(self.item_tower, [pooled[key] for key in self.keys["item"]], named[1])
        return query_vectors, item_vectors[:, 0]


def keyed(keys: list[str], bags: Sequence[Bag], size: int) -> Any:
    """Bags as a KeyedJaggedTensor of `size` bags a key, empty ones behind those there are."""
    import torchrec

    lengths = [torch.diff(bag.offsets) for bag in bags]
    weights = [
        bag.weights if bag.weights is not None else torch.repeat_interleave(1 / length, length)
        for bag, length in zip(bags, lengths, strict=True)
    ]
    return torchrec.KeyedJaggedTensor.from_lengths_sync(
        keys=keys,
        values=torch.cat([bag.rows for bag in bags]),
        lengths=torch.cat([nn.functional.pad(length, (0, size - len(length))) for length in lengths]),
        weights=torch.cat(weights),
    )


def shard(model: ShardableTwoTower, learning_rate: float, device: torch.device, how: str = "row_wise") -> Any:
    """Split the model's tables over the default process group; gives TorchRec's DistributedModelParallel.

    Table rows are learned by Adagrad inside the backward pass, from the mean gradient of all workers; `adagrad` gives
    the optimiser of the whole. TorchRec offers `row_wise` on GPUs only; `table_wise` gives each worker whole tables.
    """
    from torch import distributed
    from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
    from torchrec.distributed.types import ShardingEnv

    group = distributed.group.WORLD
    assert group is not None
    _apply_optimizer_in_backward(torch.optim.Adagrad, model.tables.parameters(), {"lr": learning_rate, "eps": 1e-10})
    constraints = {name: ParameterConstraints(sharding_types=[how]) for name in model.tables.embedding_bags}
    topology = Topology(world_size=group.size(), compute_device=device.type)
    sharders: list[Any] = [EmbeddingBagCollectionSharder()]
    plan = EmbeddingShardingPlanner(topology=topology, constraints=constraints).collective_plan(model, sharders, group)
    weights = {name: value.clone() for name, value in plain_weights(model).items()}
    sharded = DistributedModelParallel(
        model, env=ShardingEnv.from_process_group(group), device=device, plan=plan, sharders=sharders
    )
    load_plain(sharded, weights)  # TorchRec starts its tables anew
    return sharded


def adagrad(sharded: Any, learning_rate: float) -> Any:
    """The optimiser of a sharded model: its tables', whose step only sets the rate, and Adagrad for the rest."""
    from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
    from torchrec.optim.optimizers import in_backward_optimizer_filter

    dense = dict(in_backward_optimizer_filter(sharded.named_parameters()))
    rest = KeyedOptimizerWrapper(dense, lambda parameters: torch.optim.Adagrad(parameters, lr=learning_rate))
    for group in sharded.fused_optimizer.param_groups:
        group["lr"] = learning_rate  # which came back as a float32
    # A forward pass takes along the rate by which its backward pass will learn.
    sharded.register_forward_pre_hook(lambda *_: sharded.fused_optimizer.step())
    return CombinedOptimizer([sharded.fused_optimizer, rest])


def plain_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a shardable or sharded model as a TwoTower's; every worker must call it.

    Of sharded tables only rank 0 receives the rows, in its main memory; elsewhere they are empty.
    """
    return {_plain_name(name): _gathered(value, parts) for name, value, parts in _weights(model)}


def plain_sums(sharded: nn.Module, optimiser: Any) -> dict[str, torch.Tensor]:
    """What `adagrad` has summed up for each weight, as `plain_weights` gives the weights; every worker must call it."""
    return {_plain_name(name): _gathered(value, parts) for name, value, parts in _sums(sharded, optimiser)}


def load_plain(sharded: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put a TwoTower's state into a sharded model: each worker takes the rows that it holds."""
    for name, value, parts in _weights(sharded):
        _take(value, parts, weights[_plain_name(name)])


def load_sums(sharded: nn.Module, optimiser: Any, sums: Mapping[str, torch.Tensor]) -> None:
    """Put what `plain_sums` gave into the optimiser of a sharded model."""
    for name, value, parts in _sums(sharded, optimiser):
        _take(value, parts, sums[_plain_name(name)])


def _weights(model: nn.Module) -> Iterator[tuple[str, Any, list[torch.Tensor]]]:
    """Name, tensor and the parts of it that lie here; a tensor that is not sharded is its own one part."""
    for name, value in model.state_dict().items():
        yield name, value, [shard.tensor for shard in value.local_shards()] if _is_sharded(value) else [value]


def _sums(sharded: nn.Module, optimiser: Any) -> Iterator[tuple[str, Any, list[torch.Tensor]]]:
    """As `_weights`, with the parts of Adagrad's sums in place of those of the weights, which lie as they do."""
    states = optimiser.state_dict()["state"]
    for name, value in sharded.state_dict().items():
        if _is_sharded(value):
            yield name, value, [shard.tensor for kept in states.get(name, {}).values() for shard in kept.local_shards()]
        else:
            yield name, value, [states[name]["sum"]]


def _is_sharded(value: object) -> bool:
    from torch.distributed._shard.sharded_tensor.api import ShardedTensor

    return isinstance(value, ShardedTensor)


def _plain_name(name: str) -> str:
    return name.replace("tables.embedding_bags.", "tables.")


@torch.no_grad()
def _take(value: Any, parts: list[torch.Tensor], whole: torch.Tensor) -> None:
    """Copy from `whole` (V, D) the shards of `value` that lie here into `parts`; all of it where it is not sharded."""
    if not _is_sharded(value):
        parts[0].copy_(whole)
        return
    for shard, part in zip(value.local_shards(), parts, strict=True):
        (row, column), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
        part.copy_(whole[row : row + rows, column : column + columns])


@torch.no_grad()
def _gathered(value: Any, parts: list[torch.Tensor]) -> torch.Tensor:
    """The whole (V, D) of which each worker holds `parts`, sent to rank 0 piece by piece; empty elsewhere."""
    from torch import distributed

    if not _is_sharded(value):
        return parts[0]
    rank, mine = distributed.get_rank(), iter(parts)
    whole = torch.empty(value.size() if rank == 0 else 0)
    for shard in value.metadata().shards_metadata:
        (row, column), (rows, columns), owner = shard.shard_offsets, shard.shard_sizes, shard.placement.rank()
        part = next(mine) if owner == rank else None
        size = max(PIECE_BYTES // (4 * columns), 1)
        for start in range(0, rows, size):
            piece = None if part is None else part[start : start + size].contiguous()
            if rank == 0:
                if piece is None:
                    device = shard.placement.device().type
                    piece = torch.empty(min(size, rows - start), columns, device=device)
                    distributed.recv(piece, owner)
                whole[row + start : row + start + len(piece), column : column + columns] = piece
            elif piece is not None:
                distributed.send(piece, 0)
    return whole


def _combine(tower: Tower, pooled: list[torch.Tensor], bags: Sequence[Bag]) -> torch.Tensor:
    size = len(bags[0].offsets) - 1
    encoders: list[BagEncoder] = list(tower.encoders)  # type: ignore[arg-type]
    vectors = [encoder.finish(part[:size]) for encoder, part in zip(encoders, pooled, strict=True)]
    return tower.combine(torch.stack(vectors, dim=1))
