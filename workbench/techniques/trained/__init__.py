"""Steps that train: each looks up what a job learned for it (``workbench.train``)."""

from __future__ import annotations

from .base import MissingTraining, TrainingSettings
from .distill import DISTILL, DistillSettings
from .find_ticket import FIND_TICKET, FindTicketSettings
from .finetune import FINETUNE, FinetuneSettings
from .learn_bits import LEARN_BITS, LearnBitsSettings
from .learn_gates import LEARN_GATES, LearnGatesSettings
from .learn_scores import LEARN_SCORES, LearnScoresSettings
from .predict_filters import PREDICT_FILTERS, PredictFiltersSettings
from .prune_gradually import PRUNE_GRADUALLY, PruneGraduallySettings
from .reconstruct import RECONSTRUCT, ReconstructSettings
from .regularize import REGULARIZE, RegularizeSettings
from .sparsify_bayesian import SPARSIFY_BAYESIAN, SparsifyBayesianSettings
from .taught import TaughtSettings
from .train_n_of_m import TRAIN_N_OF_M, TrainNOfMSettings
from .train_sparse import TRAIN_SPARSE, TrainSparseSettings

#: In the order in which they are offered.
TRAINED = (
    RECONSTRUCT,
    FINETUNE,
    DISTILL,
    PRUNE_GRADUALLY,
    TRAIN_SPARSE,
    FIND_TICKET,
    LEARN_GATES,
    LEARN_SCORES,
    PREDICT_FILTERS,
    LEARN_BITS,
    TRAIN_N_OF_M,
    REGULARIZE,
    SPARSIFY_BAYESIAN,
)

__all__ = [
    "DISTILL",
    "FIND_TICKET",
    "FINETUNE",
    "LEARN_BITS",
    "LEARN_GATES",
    "LEARN_SCORES",
    "PREDICT_FILTERS",
    "PRUNE_GRADUALLY",
    "RECONSTRUCT",
    "REGULARIZE",
    "SPARSIFY_BAYESIAN",
    "TRAINED",
    "TRAIN_N_OF_M",
    "TRAIN_SPARSE",
    "DistillSettings",
    "FindTicketSettings",
    "FinetuneSettings",
    "LearnBitsSettings",
    "LearnGatesSettings",
    "LearnScoresSettings",
    "MissingTraining",
    "PredictFiltersSettings",
    "PruneGraduallySettings",
    "ReconstructSettings",
    "RegularizeSettings",
    "SparsifyBayesianSettings",
    "TaughtSettings",
    "TrainNOfMSettings",
    "TrainSparseSettings",
    "TrainingSettings",
]
