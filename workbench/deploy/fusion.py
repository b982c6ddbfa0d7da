"""What a runtime makes of an ONNX graph: which operators it takes into one another, and what that saves.

ONNX Runtime writes down the graph that it runs. Its names tell which operator each of its kernels began as; what
is not named there went into a neighbour: activations, additions, BatchNorm and QuantizeLinear into the operator
that made their input, all else, such as DequantizeLinear, into the one that reads it. OpenVINO says itself
which layers its kernels hold.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.counting import counted
from workbench.deploy.benchmark import Interval, benchmark
from workbench.deploy.benchmark.engines import EngineError, find_runtime
from workbench.measure.latency.measured import open_session

if TYPE_CHECKING:
    from onnx import GraphProto

#: Operators that are taken into the one before them; all others into the one behind.
_FOLLOW = frozenset({
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Add", "Sum", "Mul",
    "BatchNormalization", "QuantizeLinear", "Identity", "Dropout",
})  # fmt: skip


@dataclass(frozen=True)
class Operator:
    """A node of a graph. ``inputs``: places of the nodes that make what it reads."""

    name: str
    op: str
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """A node of the graph that runs, and the places of the operators that it holds, none where it was added."""

    name: str
    op: str
    inputs: tuple[int, ...]
    holds: tuple[int, ...]


@dataclass(frozen=True)
class Fusion:
    """An ONNX graph before and after a runtime's fusions.

    ``before_ms`` and ``after_ms``: a run with the graph as it is and as it runs, ``ratio`` the second ÷ the
    first within the same rounds; None where the runtime cannot run the graph unfused.
    """

    runtime: str
    before: tuple[Operator, ...]
    after: tuple[Kernel, ...]
    before_ms: Interval | None = None
    after_ms: Interval | None = None
    ratio: Interval | None = None

    @property
    def patterns(self) -> Counter[str]:
        """How often which operators became one kernel, such as "Conv + BatchNormalization + Relu → Conv"."""
        found: Counter[str] = Counter()
        for kernel in self.after:
            held = [self.before[place].op for place in kernel.holds]
            if len(held) > 1:
                found[f"{_sum(held)} → {kernel.op}"] += 1
        return found

    @property
    def removed(self) -> Counter[str]:
        """Operators that no kernel holds: computed once when the file was loaded, or not needed."""
        held = {place for kernel in self.after for place in kernel.holds}
        return Counter(node.op for place, node in enumerate(self.before) if place not in held)

    @property
    def added(self) -> Counter[str]:
        """Kernels that hold no operator: changes of layout and number type."""
        return Counter(kernel.op for kernel in self.after if not kernel.holds)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON: both graphs, their operator counts, the patterns and times."""
        return {
            "runtime": self.runtime,
            "counts": {
                "before": dict(Counter(node.op for node in self.before).most_common()),
                "after": dict(Counter(kernel.op for kernel in self.after).most_common()),
            },
            "patterns": dict(self.patterns.most_common()), "removed": dict(self.removed), "added": dict(self.added),
            "ms": {
                "before": self.before_ms and self.before_ms.to_json(),
                "after": self.after_ms and self.after_ms.to_json(),
            },
            "ratio": self.ratio and self.ratio.to_json(),
            "graph": {"before": [asdict(node) for node in self.before], "after": [asdict(one) for one in self.after]},
        }  # fmt: skip


def fusion(
    path: str | Path, runtime: str = "onnxruntime", *, shape: tuple[int, ...] | None = None, threads: int = 1,
    seconds: float = 0.0,
) -> Fusion:  # fmt: skip
    """Return what ``runtime`` ("onnxruntime" or "openvino") makes of the ONNX file at ``path``.

    With ``seconds`` both graphs are timed, at most so long each; ``shape`` and ``threads`` as in ``benchmark``.

    Raises:
        WorkbenchError: no such file, no ONNX model, a runtime that is not installed or tells nothing.
    """
    path = Path(path)
    if runtime not in _READERS or path.suffix != ".onnx":
        raise EngineError(
            f"Fusion is shown for ONNX files in {' and '.join(_READERS)}, not '{path.name}' in {runtime}."
        )
    found = find_runtime(path, runtime)
    before, after = _READERS[runtime](path)
    if not seconds:
        return Fusion(found.name, before, after)
    unfused = ["onnxruntime-unfused"] if runtime == "onnxruntime" else []
    timed = benchmark(
        [path], runtimes=[*unfused, runtime], shape=shape, threads=threads, seconds=seconds, kernels=False
    )
    if not unfused:
        return Fusion(timed[0].runtime, before, after, after_ms=timed[0].ms)
    return Fusion(timed[1].runtime, before, after, timed[0].ms, timed[1].ms, timed[1].ratio)


def _onnxruntime(path: Path) -> tuple[tuple[Operator, ...], tuple[Kernel, ...]]:
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "optimized.onnx"
        open_session(str(path), optimized_to=str(written))
        after = onnx.load(str(written), load_external_data=False).graph
    before = onnx.load(str(path), load_external_data=False).graph
    held = _held(before, after)
    inputs = _edges(after)
    return _operators(before), tuple(
        Kernel(node.name, _op(node), inputs[place], tuple(sorted(held[place]))) for place, node in enumerate(after.node)
    )


def _held(before: GraphProto, after: GraphProto) -> list[set[int]]:
    """Return, for each node that runs, the places of the operators that it holds."""
    owners = _complete(before, _named(before, after))
    held: list[set[int]] = [set() for _ in after.node]
    for place, owner in owners.items():
        held[owner].add(place)
    return held


def _complete(before: GraphProto, owners: dict[int, int]) -> dict[int, int]:
    """Let operators that no kernel names go to a neighbour's kernel; return operator → kernel."""
    inputs = _edges(before)
    readers: dict[int, list[int]] = {}
    for place, sources in enumerate(inputs):
        for source in sources:
            readers.setdefault(source, []).append(place)
    owners = dict(owners)

    def spread(behind: bool) -> bool:
        """Give operators to the kernel of one before them (``behind``: of one that reads them); say if any."""
        changed = False
        for place, node in enumerate(before.node):
            follows = node.op_type in _FOLLOW and not behind
            around = inputs[place] if follows else readers.get(place, ())
            found = [owners[one] for one in around if one in owners]
            if place not in owners and found:  # an addition goes into whichever of its inputs is made last
                owners[place] = max(found) if follows else min(found)
                changed = True
        return changed

    while spread(behind=False) or spread(behind=True):
        pass
    return owners


def _named(before: GraphProto, after: GraphProto) -> dict[int, int]:
    """Return operator → the kernel that has its name, or the name of what it makes."""
    known: dict[str, int] = {}
    for place, node in enumerate(before.node):
        known.update(dict.fromkeys([*node.output, *([node.name] if node.name else [])], place))
    owners: dict[int, int] = {}
    for place, node in enumerate(after.node):
        if node.op_type in ("ReorderInput", "ReorderOutput") or (not node.name and not node.output):
            continue
        plain = re.sub(r"(_nchwc|_token_\d+)$", "", node.name)
        for name in (plain, *node.output):
            if name in known:
                owners.setdefault(known[name], place)
    return owners


def _operators(graph: GraphProto) -> tuple[Operator, ...]:
    inputs = _edges(graph)
    return tuple(Operator(node.name, node.op_type, inputs[place]) for place, node in enumerate(graph.node))


def _edges(graph: GraphProto) -> list[tuple[int, ...]]:
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    return [tuple(makers[name] for name in node.input if name in makers) for node in graph.node]


def _op(node: Any) -> str:
    """Return the operator with its layout, where it has one of ONNX Runtime's own."""
    return f"{node.op_type} (blocked)" if str(node.domain).endswith("nchwc") else str(node.op_type)


def _openvino(path: Path) -> tuple[tuple[Operator, ...], tuple[Kernel, ...]]:
    import onnx
    import openvino

    before = onnx.load(str(path), load_external_data=False).graph
    places = {name: place for place, node in enumerate(before.node) for name in (node.name, *node.output) if name}
    try:
        model = openvino.Core().compile_model(str(path), "CPU").get_runtime_model()
    except RuntimeError as error:
        raise EngineError(f"'{path}' is no model that OpenVINO loads.") from error
    running = _live(model)
    index = {op.get_friendly_name(): place for place, op in enumerate(running)}
    owners: dict[int, int] = {}
    for place, op in enumerate(running):
        for name in (*_info(op, "originalLayersNames").split(","), *_stems(op.get_friendly_name())):
            if name in places:
                owners.setdefault(places[name], place)
    held: list[set[int]] = [set() for _ in running]
    for operator, owner in _complete(before, owners).items():
        held[owner].add(operator)
    kernels = [
        Kernel(
            op.get_friendly_name(), f"{_info(op, 'layerType')} {_info(op, 'runtimePrecision')}",
            tuple(index[name] for name in _sources(op) if name in index), tuple(sorted(held[place])),
        )
        for place, op in enumerate(running)
    ]  # fmt: skip
    return _operators(before), tuple(kernels)


def _live(model: Any) -> list[Any]:
    """Return the nodes that run for every input: what is made of constants alone was computed while loading."""
    depends: set[str] = set()
    found = []
    for op in model.get_ordered_ops():
        kind = _info(op, "layerType")
        if kind in ("Parameter", "Input") or any(name in depends for name in _sources(op)):
            depends.add(op.get_friendly_name())
            if kind not in ("Parameter", "Input", "Result", "Output"):
                found.append(op)
    return found


def _sources(op: Any) -> list[str]:
    return [value.get_source_output().get_node().get_friendly_name() for value in op.inputs()]


def _stems(name: str) -> list[str]:
    """Return a name and what it extends: kernels are called ``NAME/WithoutBiases`` and the like."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _info(op: Any, name: str) -> str:
    info = op.get_rt_info()
    return str(info[name].astype(str)) if name in info else ""


_READERS = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _sum(ops: Sequence[str]) -> str:
    """Return operators in order, equal neighbours counted."""
    words: list[tuple[str, int]] = []
    for op in ops:
        if words and words[-1][0] == op:
            words[-1] = (op, words[-1][1] + 1)
        else:
            words.append((op, 1))
    return " + ".join(op if count == 1 else f"{count} {op}" for op, count in words)


def render_fusion(found: Fusion) -> list[str]:
    """Return the fusion as lines for a terminal."""
    before, after = counted(len(found.before), "operator"), counted(len(found.after), "kernel")
    lines = [f"  fusion in {found.runtime}: {before} become {after}"]
    lines += [f"    {count:>3} × {pattern}" for pattern, count in found.patterns.most_common()]
    for word, counts in (("removed", found.removed), ("added", found.added)):
        if counts:
            lines.append(f"    {word}: " + ", ".join(f"{count} {op}" for op, count in counts.most_common()))
    if found.ratio and found.before_ms and found.after_ms:
        lines.append(
            f"    {found.before_ms.median:.4g} ms unfused, {found.after_ms.median:.4g} ms fused: "
            f"{found.ratio.median:.2f}× the time [{found.ratio.low:.2f}–{found.ratio.high:.2f}]"
        )
    return lines
