"""The road's first step: where the uncompressed model's time and memory go, and what would help.

One image through ONNX Runtime under its profiler, the profiler's own share taken off, and through PyTorch under its;
each layer's work over the bytes it moves, against this machine's measured roofline. ``words`` says in plain sentences
what dominates, and which techniques would help.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.measure.latency.profiler import Calibration, Node, calibrate, profile
from workbench.models.layers import Layer
from workbench.recipe import Recipe

from .profile_nodes import Owners
from .profile_torch import TorchProfile, profile_torch
from .roofline import Roofline, measure_roofline

if TYPE_CHECKING:
    from workbench.session import Session


@dataclass(frozen=True)
class LayerProfile:
    """One layer on one image, fp32, one thread.

    ``ms`` is the runtime's time with what it fused in, ``torch_ms`` PyTorch's; None where a profiler shows no part
    of it. ``intensity`` is in FLOP per byte of weights, input and output; ``gflops`` what it reaches, ``attainable``
    what the roofline allows. ``limit`` tells which of both roofs is above it: ``compute`` or ``memory``.
    """

    name: str
    type: str
    macs: int
    weight_bytes: int
    moved_bytes: int
    ms: float | None
    torch_ms: float | None
    share: float | None
    intensity: float
    gflops: float | None
    attainable: float
    limit: str


@dataclass(frozen=True)
class Operator:
    """A kind of node: its milliseconds in all and their share, and how many there are."""

    name: str
    ms: float
    share: float
    count: int


@dataclass(frozen=True)
class Profile:
    """The whole: ``ms`` in the runtime's nodes, of which ``beside_ms`` belongs to no layer; memory in bytes.

    ``peak_bytes`` is of activations at once, ``weight_bytes`` of fp32 parameters and buffers.
    """

    model: str
    runtime: str
    ms: float
    beside_ms: float
    torch_ms: float
    weight_bytes: int
    peak_bytes: int
    roofline: Roofline
    layers: tuple[LayerProfile, ...]
    operators: tuple[Operator, ...]
    torch_operators: tuple[Operator, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "roofline": self.roofline.to_json()}


def profile_baseline(session: Session, check: Callable[[], None] = lambda: None) -> Profile:
    """Profile the uncompressed model of ``session``; ``check`` is called between the steps and may raise.

    Where the model has no ONNX graph, PyTorch's times stand for the runtime's.
    """
    image = session.normalization(session.split.images[:1])[0]
    layers = session.layers
    module = session.compress(Recipe()).fresh_module()
    torch_found = profile_torch(module, [layer.name for layer in layers], image, check)
    check()
    roofline = measure_roofline()
    check()
    nodes = _runtime_nodes(session, image.numpy()[None])
    own: dict[str, float] = torch_found.layers
    beside = max(0.0, torch_found.ms - sum(own.values()))
    operators = _operators(torch_found.operators)
    if nodes:
        own, beside = _of_layers(nodes)
        operators = _operators(_by_operator(nodes), [node.op for node, _, _ in nodes])
    total = sum(own.values()) + beside
    rows = tuple(_layer(layer, own.get(layer.name), torch_found, total, roofline) for layer in layers)
    return Profile(
        model=session.model.name,
        runtime="onnxruntime" if nodes else "torch",
        ms=total,
        beside_ms=beside,
        torch_ms=torch_found.ms,
        weight_bytes=sum(4 * tensor.numel() for tensor in module.state_dict().values()),
        peak_bytes=torch_found.peak_bytes,
        roofline=roofline,
        layers=rows,
        operators=operators,
        torch_operators=_operators(torch_found.operators),
    )


#: A runtime's node, the layer it belongs to, and its milliseconds without the profiler's share.
_Owned = tuple[Node, str | None, float]


def _runtime_nodes(session: Session, image: np.ndarray[Any, Any]) -> list[_Owned]:
    """Return the nodes of one image's run; none where the model has no ONNX graph."""
    import onnx

    try:
        model = onnx.load_from_string(session.onnx_file(Recipe()))
    except WorkbenchError:
        return []
    owners = Owners(model, session.layers)
    nodes = profile(model, {model.graph.input[0].name: image.astype(np.float32)})
    cost: Calibration = calibrate(lambda: True)
    return [(node, owners.of(node.name), cost.net(node.ns, node.inputs) / 1e6) for node in nodes]


def _of_layers(nodes: list[_Owned]) -> tuple[dict[str, float], float]:
    """Return layer → milliseconds, and the milliseconds of no layer."""
    own: dict[str, float] = defaultdict(float)
    beside = 0.0
    for _, owner, ms in nodes:
        if owner is None:
            beside += ms
        else:
            own[owner] += ms
    return dict(own), beside


def _by_operator(nodes: list[_Owned]) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for node, _, ms in nodes:
        times[node.op] += ms
    return times


def _operators(times: dict[str, float], seen: list[str] | None = None) -> tuple[Operator, ...]:
    """Return the operators by their time, the longest first."""
    total = sum(times.values()) or 1.0
    ordered = sorted(times.items(), key=lambda item: -item[1])
    return tuple(Operator(name, ms, ms / total, seen.count(name) if seen else 0) for name, ms in ordered if ms > 0)


def _layer(layer: Layer, ms: float | None, found: TorchProfile, total: float, roofline: Roofline) -> LayerProfile:
    weights = 4 * layer.params
    moved = weights + 4 * prod(layer.input_shape or (0,)) + layer.activation_bytes
    intensity = 2 * layer.macs / moved if moved else 0.0
    reached = 2 * layer.macs / (ms * 1e6) if ms else None
    return LayerProfile(
        layer.name, layer.type, layer.macs, weights, moved, ms, found.layers.get(layer.name),
        ms / total if ms is not None and total else None, intensity, reached, roofline.attainable(intensity),
        "compute" if intensity >= roofline.ridge else "memory",
    )  # fmt: skip
