"""Latency, measured on this machine or predicted from its kernels.

``measure_latency`` times a model in ONNX Runtime; ``fused_kernels`` says what ONNX Runtime will run for
a graph; a ``KernelTable`` holds what such kernels take here; ``predict_latency`` adds them up, and
``explain`` says in words why a recipe is or is not faster.
"""

from __future__ import annotations

from .device import Device, this_machine
from .graph import Graph, GraphError, read_graph, regroup, resize
from .kernels import Kernel, fused_kernels
from .measured import Interleaved, LatencyError, measure_interleaved, measure_latency
from .predict import Anchor, KernelTime, kernel_times, predict_latency
from .reasons import explain
from .seen import seen_kernels
from .table import KernelTable, open_table

__all__ = [
    "Anchor",
    "Device",
    "Graph",
    "GraphError",
    "Interleaved",
    "Kernel",
    "KernelTable",
    "KernelTime",
    "LatencyError",
    "explain",
    "fused_kernels",
    "kernel_times",
    "measure_interleaved",
    "measure_latency",
    "open_table",
    "predict_latency",
    "read_graph",
    "regroup",
    "resize",
    "seen_kernels",
    "this_machine",
]
