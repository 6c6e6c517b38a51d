"""What a GPU is asked for: whether it is there, what FAISS can hold on it, how much memory that takes and what is free.

FAISS's own GPU indexes are for bundles that were fitted for a GPU (`index.device: cuda`). Of any other bundle all
vectors are held in half precision and compared exactly, which needs no FAISS for GPUs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import faiss
import torch

from twinspire.errors import ConfigError, EnvironmentProblem
from twinspire.index.parameters import is_gpu_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

api: Any = faiss  # what its type stubs lack or say wrongly

TEMPORARY = "TWINSPIRE_GPU_TEMP_MIB"  # the variable that bounds what searches take beside what is held
TEMPORARY_MIB = 256
# Of product quantisation FAISS's kernels take these numbers of bytes, from the last of `WHOLE_TABLES` on with tables of
# half precision: all tables of a query are in the 48 KiB that a block of threads has to itself.
CODE_BYTES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
WHOLE_TABLES = 48
ROUNDING = 2 * 256  # codes and ids of a list begin at multiples of 256 bytes
ID_BYTES = 8
LINK_BYTES = 4
GIB = 2**30


class Placement(NamedTuple):
    """What of an index is put on a device: FAISS's own form of it, and all vectors of some precision; `nbytes` of
    its memory, what searches take beside them included."""

    compressed: bool
    whole: torch.dtype | None
    nbytes: int


def require_gpu() -> None:
    """Errors: EnvironmentProblem where PyTorch sees no GPU."""
    if torch.cuda.is_available():
        return
    why = "sees no GPU" if torch.version.cuda else "is built without CUDA"
    raise EnvironmentProblem(
        f"device cuda: PyTorch {torch.__version__} {why} here; use cpu, or a machine where nvidia-smi lists a GPU and "
        "PyTorch is built for it"
    )


def require_faiss() -> None:
    """Errors: EnvironmentProblem where there is no GPU or FAISS cannot use it."""
    require_gpu()  # first: without a driver FAISS would end the process
    if not has_faiss():
        raise EnvironmentProblem(
            "index.device: cuda needs FAISS for GPUs in place of faiss-cpu; install twinspire[gpu], with CAGRA "
            "twinspire[gpu-cuvs], or use cpu"
        )


def require_cagra() -> None:
    """Errors: EnvironmentProblem where FAISS is built without cuVS, or there is no GPU."""
    require_faiss()
    if not hasattr(faiss, "GpuIndexCagra"):
        raise EnvironmentProblem("index.factory: CAGRA needs FAISS with cuVS; install twinspire[gpu-cuvs]")


def has_faiss() -> bool:
    """Whether FAISS is built for GPUs and sees one. Ask only where there is one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def temporary_bytes() -> int:
    """What searches may take of a GPU's memory beside what is held, for each index.

    Errors: ConfigError for a variable that is no number of MiB.
    """
    told = os.environ.get(TEMPORARY, "")
    if told and (not told.isdecimal() or not 16 <= int(told) <= 1536):
        raise ConfigError(f"{TEMPORARY}={told}: a whole number of MiB from 16 to 1536")
    return int(told or TEMPORARY_MIB) << 20


def resources() -> Any:
    """FAISS's streams and temporary memory for one index: no two indexes, and so no two threads, share them.

    Its work goes to torch's own stream, so that tensors go in and out in order and nobody waits.
    Errors: EnvironmentProblem where FAISS has no GPU.
    """
    require_faiss()
    own = api.StandardGpuResources()
    own.setPinnedMemory(0)  # 256 MiB of the host's, for queries that come from there
    own.setTempMemory(temporary_bytes())
    own.setDefaultNullStreamAllDevices()
    return own


def to_gpu(index: Any, device: torch.device) -> Any:
    """A copy of a FAISS index in the memory of a GPU, with resources of its own.

    Errors: EnvironmentProblem where FAISS has no GPU or not enough of its memory.
    """
    own, options = resources(), api.GpuClonerOptions()
    options.useFloat16 = isinstance(index, faiss.IndexIVFPQ) and index.pq.M > WHOLE_TABLES
    try:
        return faiss.index_cpu_to_gpu(own, device.index or 0, index, options)
    except RuntimeError as error:
        if "alloc" not in str(error):
            raise
        raise EnvironmentProblem(
            f"the GPU has no memory left for the index ({str(error).splitlines()[0][-120:]})"
        ) from None


def suits_faiss(index: Any) -> bool:
    """Whether FAISS has a GPU's form of an index: lists of full vectors, of 8 bits or half precision a dimension, or of
    PQ with 8 bits; CAGRA's graph where it is built with cuVS. A 4-bit fast-scan or another graph has none."""
    if isinstance(index, api.IndexHNSWCagra):
        return hasattr(faiss, "GpuIndexCagra")
    if not isinstance(index, faiss.IndexIVF) or not isinstance(faiss.downcast_index(index.quantizer), faiss.IndexFlat):
        return False
    if type(index) is faiss.IndexIVFPQ:
        ours = index.by_residual and index.polysemous_ht == 0
        return bool(ours and index.pq.nbits == 8 and index.pq.M in CODE_BYTES)
    if type(index) is faiss.IndexIVFScalarQuantizer:
        return index.sq.qtype in (api.ScalarQuantizer.QT_8bit, api.ScalarQuantizer.QT_fp16)
    return type(index) is faiss.IndexIVFFlat


def code_bytes(dim: int) -> int:
    """The bytes an item of the finest product quantisation that FAISS has on a GPU, two dimensions a byte at most."""
    return max(size for size in CODE_BYTES if dim % size == 0 and size <= max(dim // 2, 1))


def compressed_bytes(index: Any) -> int:
    """What FAISS takes of a GPU's memory for an index that `suits_faiss`."""
    if isinstance(index, api.IndexHNSWCagra):
        return int(index.ntotal * (4 * index.d + LINK_BYTES * index.hnsw.nb_neighbors(0)))
    return int(index.ntotal * (index.code_size + ID_BYTES) + index.nlist * (4 * index.d + ROUNDING))


def whole_bytes(count: int, dim: int, dtype: torch.dtype) -> int:
    """What all vectors take."""
    return count * dim * dtype.itemsize


def placements(index: Any, *, filtered: bool, faiss_there: bool, temporary: int) -> list[Placement]:
    """What could be put on a device of an index, the best first.

    A flat index is compared exactly, in half precision where there is no more room. FAISS's form of an index ignores
    filters: where there are any, all vectors stand beside it, or filtered searches are left to the CPU.
    """
    full, half = (whole_bytes(index.ntotal, index.d, dtype) for dtype in (torch.float32, torch.float16))
    if isinstance(index, faiss.IndexFlat):
        return [Placement(False, torch.float32, full + temporary), Placement(False, torch.float16, half + temporary)]
    if not (faiss_there and suits_faiss(index)):
        return [Placement(False, torch.float16, half + temporary)]
    held = compressed_bytes(index) + temporary
    beside = [Placement(True, torch.float16, held + half + temporary)] if filtered else []
    return [*beside, Placement(True, None, held)]


def choose(index: Any, options: Sequence[Placement], free: int, tower: int = 0) -> Placement:
    """The first of `placements` that goes into the `free` bytes with the query tower's.

    Errors: EnvironmentProblem where none does; it says what would.
    """
    for option in options:
        if option.nbytes + tower <= free:
            return option
    least = options[-1]
    needed = f"needs about {(least.nbytes + tower) / GIB:.1f} GiB of GPU memory, {free / GIB:.1f} GiB are free"
    if least.compressed:
        raise EnvironmentProblem(f"the index {needed}; drop an arm, take a larger GPU, or serve it on cpu")
    smaller = (index.ntotal * (code_bytes(index.d) + ID_BYTES)) / GIB
    raise EnvironmentProblem(
        f"the index ({type(index).__name__}) has no form for GPUs, and comparing all vectors in half precision "
        f"{needed}; fit with --set index.device=cuda (an index of about {smaller:.1f} GiB), take a larger GPU, or "
        "serve it on cpu"
    )


def free_bytes(device: torch.device) -> int:
    """What is free of a device's memory, after torch has given back what nobody uses any more; of a CPU as much as one
    may ask."""
    if device.type != "cuda":
        return 1 << 62
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def is_cagra(index: Any) -> bool:
    """Whether an index is CAGRA's, on a GPU."""
    return is_gpu_kind(index, "GpuIndexCagra")
