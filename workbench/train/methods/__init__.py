"""The methods of the trained techniques, by the technique's name; a new one is one file here and one entry below."""

from __future__ import annotations

from typing import Any

from ..method import Method
from .distill import Distill
from .find_ticket import FindTicket
from .learn_bits import LearnBits
from .learn_gates import LearnGates
from .learn_scores import LearnScores
from .predict_filters import PredictFilters
from .prune_gradually import PruneGradually
from .reconstruct import Reconstruct
from .regularize import Regularize
from .sparsify_bayesian import SparsifyBayesian
from .train_n_of_m import TrainNOfM
from .train_sparse import TrainSparse

METHODS: dict[str, type[Method[Any]]] = {
    "finetune": Method,
    "reconstruct": Reconstruct,
    "distill": Distill,
    "prune_gradually": PruneGradually,
    "train_sparse": TrainSparse,
    "find_ticket": FindTicket,
    "learn_gates": LearnGates,
    "learn_scores": LearnScores,
    "predict_filters": PredictFilters,
    "learn_bits": LearnBits,
    "train_n_of_m": TrainNOfM,
    "regularize": Regularize,
    "sparsify_bayesian": SparsifyBayesian,
}
