"""``workbench benchmark``: how fast model files run on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json

if TYPE_CHECKING:
    from workbench.deploy.benchmark import Benchmark

#: Operators shown without ``--json``.
_SHOWN = 12


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("benchmark", help="time model files on this machine, several side by side")
    verb.add_argument("files", nargs="+", metavar="FILE", help=".onnx, OpenVINO .xml, .pt2 or .wbz")
    verb.add_argument(
        "--runtime", action="append", default=[], metavar="R", help="onnxruntime, openvino or torch; may be repeated"
    )
    verb.add_argument("--threads", type=int, default=1, metavar="N", help="pinned to as many cores (default: 1)")
    verb.add_argument("--batch", type=int, default=1, metavar="B", help="inputs of a run (default: 1)")
    verb.add_argument("--shape", metavar="C,H,W", help="of an input, where the file leaves it open")
    verb.add_argument("--seconds", type=float, default=5.0, metavar="S", help="for each file, at most (default: 5)")
    add_json(verb)
    verb.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    from workbench.deploy.benchmark import benchmark

    found = benchmark(
        options.files, runtimes=options.runtime, threads=options.threads, batch=options.batch,
        shape=_shape(options.shape), seconds=options.seconds, progress=_tell,
    )  # fmt: skip
    if options.json:
        report = found[0].to_json()
        if len(found) > 1:
            report["files"] = [entry.to_json() for entry in found]
        print(json.dumps(report, indent=1))
    else:
        print(render(found))
    return 0


def render(found: tuple[Benchmark, ...]) -> str:
    """Return what was measured as text for a terminal."""
    lines = []
    for entry in found:
        ms, rate, memory = entry.ms, entry.throughput, entry.memory
        beside = (
            f", {entry.ratio.median:.3f}× [{entry.ratio.low:.3f}–{entry.ratio.high:.3f}] the first"
            if entry.ratio
            else ""
        )
        lines += [
            f"{entry.file}  {entry.runtime}, {entry.threads} thread(s), batch {entry.batch}",
            f"  {ms.median:.4g} ms [{ms.low:.4g}–{ms.high:.4g}]{beside}; {rate.median:,.0f} inputs/s",
            f"  loads in {entry.load_ms:.0f} ms, first run {entry.first_ms:.3g} ms, {entry.bytes:,} bytes on disk"
            + (f", {memory.above_bytes / 2**20:.1f} MiB of memory above the empty runtime" if memory else ""),
            f"  {entry.noise.verdict}: {' '.join(entry.noise.findings) or 'nothing disturbed the measurement.'}",
        ]
        total = sum(row.ms for row in entry.kernels)
        lines += [
            f"    {row.ms / total:5.1%}  {row.ms:.4f} ms  {row.op} {row.dtype}  {row.name}"
            for row in entry.kernels[:_SHOWN]
        ]
        if len(entry.kernels) > _SHOWN:
            rest = entry.kernels[_SHOWN:]
            lines.append(f"    {sum(row.ms for row in rest) / total:5.1%}  in {len(rest)} others")
    return "\n".join(lines)


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        shape = tuple(int(size) for size in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise WorkbenchError(f"'{text}' is no shape: write it as 1,28,28.")
    return shape


def _tell(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\rbenchmark: {share:.0%}\x1b[K", end="\n" if share >= 1 else "", file=sys.stderr, flush=True)
