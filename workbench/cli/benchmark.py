"""``workbench benchmark``: how fast model files run on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .common import Verbs, add_json

if TYPE_CHECKING:
    from workbench.deploy.benchmark import Benchmark
    from workbench.deploy.fusion import Fusion

#: Operators shown without ``--json``.
_SHOWN = 12


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("benchmark", help="time model files on this machine, several side by side")
    verb.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a written model: .onnx, OpenVINO .xml, .pt2, .pte, .tflite, .tvm.so or .wbz",
    )
    verb.add_argument(
        "--runtime",
        action="append",
        default=[],
        metavar="R",
        help="onnxruntime, openvino, torch, torch-compile, aot-inductor, executorch, litert or tvm; may be repeated",
    )
    verb.add_argument("--threads", type=int, default=1, metavar="N", help="pinned to as many cores (default: 1)")
    verb.add_argument("--batch", type=int, default=1, metavar="B", help="inputs of a run (default: 1)")
    verb.add_argument("--shape", metavar="C,H,W", help="of an input, where the file leaves it open")
    verb.add_argument("--seconds", type=float, default=5.0, metavar="S", help="for each file, at most (default: 5)")
    verb.add_argument(
        "--fusion", action="store_true", help="what the runtime fuses in an .onnx file, and what that saves"
    )
    add_json(verb)
    verb.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    from workbench.deploy.benchmark import benchmark

    shape = _shape(options.shape)
    found = benchmark(
        options.files, runtimes=options.runtime, threads=options.threads, batch=options.batch,
        shape=shape, seconds=options.seconds, progress=_tell,
    )  # fmt: skip
    fused = [_fusion(entry, options, shape) if options.fusion else None for entry in found]
    if options.json:
        reports = [
            {**entry.to_json(), **({"fusion": one.to_json()} if one else {})}
            for entry, one in zip(found, fused, strict=True)
        ]
        print(json.dumps({**reports[0], **({"files": reports} if len(reports) > 1 else {})}, indent=1))
    else:
        from workbench.deploy.fusion import render_fusion

        for entry, one in zip(found, fused, strict=True):
            print("\n".join([render(entry), *(render_fusion(one) if one else ())]))
    return 0


def _fusion(entry: Benchmark, options: argparse.Namespace, shape: tuple[int, ...] | None) -> Fusion | None:
    """Return what the runtime fused; None where the file or runtime shows nothing of it."""
    from workbench.deploy.fusion import fusion

    name, *rest = entry.runtime.split(" ", 2)
    if not entry.file.endswith(".onnx") or name not in ("onnxruntime", "openvino") or len(rest) > 1:
        return None
    return fusion(entry.file, name, shape=shape, threads=entry.threads, seconds=options.seconds)


def render(entry: Benchmark) -> str:
    """Return what was measured as text for a terminal."""
    ms, rate, memory = entry.ms, entry.throughput, entry.memory
    beside = ""
    if entry.ratio:
        beside = f", {entry.ratio.median:.3f}× [{entry.ratio.low:.3f}–{entry.ratio.high:.3f}] the first"
    lines = [
        f"{entry.file}  {entry.runtime}, {counted(entry.threads, 'thread')}, batch {entry.batch}",
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
    if rest := entry.kernels[_SHOWN:]:
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
