"""``workbench serve-monitor``: serve a model file over HTTP, and watch what it is asked and answers."""

from __future__ import annotations

import argparse
import contextlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

from .common import Verbs


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser(
        "serve-monitor",
        help="serve a model file over HTTP and watch it for drift",
        epilog="POST /predict takes a NumPy file (.npy) of normalised images, float32 (N, C, H, W), and answers with "
        "their classes and probabilities as JSON; GET /metrics is for Prometheus, GET /status the same as JSON.",
    )
    verb.add_argument("file", metavar="FILE", help="model that is served: .onnx, or OpenVINO's .xml")
    verb.add_argument("--data", metavar="D", help="data whose validation split tells what is normal")
    verb.add_argument("--reference", metavar="FILE", help="what is normal, as --save-reference wrote it")
    verb.add_argument("--save-reference", metavar="FILE", help="write what is normal, for a machine without the data")
    verb.add_argument("--shadow", metavar="FILE", help="dense model that answers a sample too, likewise")
    verb.add_argument(
        "--every", type=int, default=100, metavar="N", help="of which the shadow answers one (default: 100)"
    )
    verb.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the model (default: 1)")
    verb.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen at (default: local)")
    verb.add_argument("--port", type=int, default=9109, metavar="P", help="port, 0 for a free one (default: 9109)")
    verb.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from workbench.deploy.monitor.reference import Reference
    from workbench.deploy.monitor.server import NO_PROMETHEUS, MonitorServer
    from workbench.deploy.monitor.shadow import Shadow
    from workbench.deploy.monitor.watch import Monitor

    runner = _open(options.file, options.threads)
    if options.reference:
        reference = Reference.load(options.reference)
        reference.require(runner)
    elif options.data:
        reference = Reference.of(runner, _normal_images(options.data, runner))
    else:
        raise WorkbenchError("Say what is normal: --data with the model's data, or --reference with a saved one.")
    if options.save_reference:
        reference.save(options.save_reference)
    shadow = Shadow(_open(options.shadow, options.threads)) if options.shadow else None
    monitor = Monitor(runner, reference, shadow, options.every)
    if find_spec("prometheus_client") is None:
        print(f"workbench: /metrics answers nothing here. {NO_PROMETHEUS}", file=sys.stderr)
    with MonitorServer(monitor, Path(options.file).stem, options.host, options.port) as server:
        print(f"{server.url}/predict, {server.url}/metrics", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
    return 0


def _open(path: str, threads: int) -> Any:
    """Return the file opened in the runtime that its ending names."""
    from workbench.deploy.openvino_formats import OpenVinoHalf, OpenVinoRunner
    from workbench.run.runner import OnnxRunner

    file = Path(path)
    if not file.is_file():
        raise WorkbenchError(f"There is no file '{path}': export a model first, with `workbench export`.")
    if file.suffix == ".xml":
        OpenVinoHalf().require()
        return OpenVinoRunner(file, threads)
    try:
        return OnnxRunner(file.read_bytes(), threads)
    except Exception as error:
        raise WorkbenchError(f"ONNX Runtime cannot open '{path}': {str(error).splitlines()[0][:200]}") from error


def _normal_images(name: str, runner: Any) -> Any:
    """Return images that the model was not trained on, normalised as its file says, and tell how that was."""
    from workbench.data.fitting import load_fitting
    from workbench.deploy.normalizing import noted

    sides = runner.takes[1:]
    data = load_fitting(name, None if None in sides else sides)
    said = noted(runner.metadata)
    normalization = said or data.normalization
    why = "as the file says" if said else f"assumed from {data.name}, since the file does not say"
    print(f"workbench: images are normalised by {normalization}, {why}.", file=sys.stderr)
    split = "validation" if "validation" in data.splits else next(iter(data.splits))
    return normalization(data[split].images)
