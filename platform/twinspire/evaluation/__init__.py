"""How good a system is: metrics, cases and slices, baselines to beat, intervals, and the report."""

from twinspire.evaluation.baselines import BM25, Popularity, QueryMemory, baselines
from twinspire.evaluation.bootstrap import Estimate
from twinspire.evaluation.clicks import TrainingClicks, cases
from twinspire.evaluation.judged import judged_pairs
from twinspire.evaluation.protocol import EvaluationConfig, System, evaluate
from twinspire.evaluation.report import Report, Section
from twinspire.evaluation.table import render

__all__ = [
    "BM25",
    "Estimate",
    "EvaluationConfig",
    "Popularity",
    "QueryMemory",
    "Report",
    "Section",
    "System",
    "TrainingClicks",
    "baselines",
    "cases",
    "evaluate",
    "judged_pairs",
    "render",
]
