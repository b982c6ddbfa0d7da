"""Latency of a compressed model: what file a runtime would load, how fast it should be, how fast it is."""

from __future__ import annotations

import torch

from workbench.compress import CompressedModel, Subject
from workbench.data.dataset import Dataset, Normalization
from workbench.measure.estimate import Latency
from workbench.run.onnx_file import onnx_file
from workbench.run.onnx_graph import OnnxGraph


class LatencyEstimator:
    """Predicts and measures the latency of one subject's compressed models on this machine."""

    def __init__(
        self, subject: Subject, graph: OnnxGraph | None, data: Dataset, normalization: Normalization
    ) -> None:
        self._subject = subject
        self._graph = graph

    def runtime_bytes(self, compressed: CompressedModel) -> int | None:
        """Return the size of the ONNX file a runtime would load; None where the model doesn't export."""
        if self._graph is None:
            return None
        integers = {
            name: (codes.codes, codes.scale, codes.zero_point, codes.axis, codes.bits)
            for name, codes in compressed.codes.items()
        }
        halves = frozenset(name for name, dtype in compressed.casts.items() if dtype == torch.float16)
        return int(onnx_file(self._graph, compressed.tensors, integers, halves).ByteSize())

    def predict(self, compressed: CompressedModel) -> Latency | None:
        return None

    def measure(self, compressed: CompressedModel) -> Latency:
        raise NotImplementedError
