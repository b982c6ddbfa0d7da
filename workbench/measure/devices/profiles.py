"""Profiles that other tools wrote on a device, read as measurements of parts of a network.

Understood are OpenVINO's ``benchmark_app`` (``-pc -report_type detailed_counters``, CSV or JSON), ONNX
Runtime's profiling JSON, and the text of TFLite's ``benchmark_model --enable_op_profiling``. Their
operators have other names than ours, so that they are added up by kind: each kind of inner loop is one
measurement. Where a profile has no kinds in common with the network, its total is one.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.measure.latency.profiler import read_nodes

from .calibrate import Observation
from .description import DeviceError
from .roofline import Dtype
from .work import Work

#: Kinds that profiles can tell apart, and our inner loops that belong to each.
_KINDS = {
    "convolution": {"conv1x1", "conv3x3", "conv"},
    "depthwise": {"depthwise", "grouped"},
    "dense": {"dense"},
    "other": {"elementwise"},
}


@dataclass(frozen=True)
class Profile:
    """Milliseconds a run by kind of operator; ``tool`` wrote it."""

    tool: str
    ms: dict[str, float]

    @property
    def total(self) -> float:
        """Milliseconds of all operators."""
        return sum(self.ms.values())

    def observations(self, work: Work, dtype: Dtype) -> list[Observation]:
        """Return what the profile says about a network's ``work``, run in ``dtype``."""
        found = []
        for kind, ops in _KINDS.items():
            tasks = tuple(task for task in work.tasks if task.op in ops)
            if tasks and self.ms.get(kind, 0.0) > 0:
                found.append((kind, Observation(Work(tasks), dtype, self.ms[kind], noise=0.05)))
        if not {kind for kind, _ in found} - {"other"}:
            return [Observation(work, dtype, self.total, noise=0.05)]
        return [observation for _, observation in found]


def read_profile(path: Path) -> Profile:
    """Read a profile; raise :class:`DeviceError` where it is none that is understood."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DeviceError(f"The profile '{path}' cannot be read: {reason}.") from error
    for tool, reader in (("ONNX Runtime", _ort), ("benchmark_app", _openvino), ("TFLite", _tflite)):
        try:
            rows = list(reader(text))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            continue
        ms: dict[str, float] = defaultdict(float)
        for kind, time in rows:
            ms[kind] += time
        if sum(ms.values()) > 0:
            return Profile(tool, dict(ms))
    raise DeviceError(
        f"'{path.name}' is no profile of benchmark_app (detailed counters), ONNX Runtime (JSON) or TFLite's "
        "benchmark_model (with --enable_op_profiling)."
    )


Rows = Iterator[tuple[str, float]]


def _ort(text: str) -> Rows:
    events = json.loads(text)
    groups = {
        entry["name"].removesuffix("_kernel_time"): entry["args"]
        for entry in events
        if entry.get("cat") == "Node" and entry["name"].endswith("_kernel_time")
    }
    for node in read_nodes(events):
        yield _kind(node.op, _is_depthwise(groups[node.name])), node.ns / 1e6


def _is_depthwise(args: dict[str, Any]) -> bool:
    """Whether a convolution's weight has one input channel while its image has more."""
    shapes = [next(iter(entry.values())) for entry in args["input_type_shape"]]
    return len(shapes) > 1 and len(shapes[0]) == len(shapes[1]) == 4 and shapes[1][1] == 1 < shapes[0][1]


def _openvino(text: str) -> Rows:
    if text.lstrip().startswith("{"):
        requests = json.loads(text)["detailed_performance"]
        for request in requests:
            for node in request["nodes"]:
                yield _kind(node["node_type"]), float(node["real_time"]) / len(requests)
        return
    blocks = [block for block in re.split(r"\n\s*\n", text.strip()) if block.startswith("layerName")]
    for block in blocks:
        for row in csv.DictReader(block.splitlines(), delimiter=";"):
            if row["layerName"] != "Total":
                yield _kind(row["layerType"]), float(row["realTime (ms)"]) / len(blocks)


def _tflite(text: str) -> Rows:
    """Read the table in order of running, of the regular runs, which come last."""
    start = text.rindex("Run Order")
    header: list[str] = []
    for line in text[start:].splitlines()[1:]:
        cells = [cell.strip() for cell in line.split("\t") if cell.strip()]
        if any("[node type]" in cell for cell in cells):
            header = re.findall(r"\[([^\]]+)\]", line)
        elif header and line.startswith("="):
            break
        elif header and cells:
            yield _kind(cells[0]), float(cells[header.index("avg ms")])


def _kind(operator: str, depthwise: bool = False) -> str:
    """Return the kind of an operator, by the name that any of the tools gives it."""
    name = re.sub(r"[^a-z0-9]", "", operator.lower())
    if "depthwise" in name or "groupconv" in name or "dwconv" in name or depthwise:
        return "depthwise"
    if "conv" in name and "convert" not in name:
        return "convolution"
    if any(word in name for word in ("gemm", "matmul", "fullyconnected", "innerproduct")):
        return "dense"
    return "other"
