"""``workbench split``: a model cut between a device and a server: what each cut costs, and a real run."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .common import Verbs, add_json, add_subject, load_data, read_recipe


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("split", help="cut a model between a device and a server: the best cut, and a real run")
    add_subject(verb)
    verb.add_argument("--recipe", metavar="FILE", help="YAML or JSON file, '-' for standard input")
    verb.add_argument(
        "--network", default="wifi", metavar="N", help="ble, 3g, 4g, 5g, wifi or ethernet (default: wifi)"
    )
    verb.add_argument(
        "--mbps", type=float, metavar="X", help="megabits a second from the device, instead of the network's"
    )
    verb.add_argument("--rtt-ms", type=float, metavar="X", help="milliseconds there and back, instead of the network's")
    for name, told in (("device", "runs the first layers"), ("server", "runs the rest")):
        verb.add_argument(
            f"--{name}", dest=name, default="this-machine", metavar="NAME",
            help=f"what {told}: this-machine (default), or one of 'workbench devices'",
        )  # fmt: skip
    verb.add_argument(
        "--slowdown", type=float, metavar="X",
        help="how many times slower the device is than this machine on one thread, instead of what is foretold of it",
    )  # fmt: skip
    verb.add_argument(
        "--speedup", type=float, metavar="X", help="how many times faster the server is, instead of what is foretold"
    )
    verb.add_argument("--bits", type=int, default=8, metavar="B", help="bits of each value sent (default: 8)")
    verb.add_argument("--images", type=int, default=256, metavar="N", help="images that are sent (default: 256)")
    verb.add_argument(
        "--run", dest="cut", metavar="CUT", help="run this cut as two processes, 'best' for the quickest that sends"
    )
    add_json(verb)
    verb.set_defaults(run=_split)


def _split(options: argparse.Namespace) -> int:
    from workbench.deploy.split.machines import Yardstick, pace_of
    from workbench.deploy.split.parts import find_part, parts_of
    from workbench.deploy.split.plan import plan_split
    from workbench.deploy.split.trial import try_split
    from workbench.deploy.writing import prepare
    from workbench.models.load import load_model
    from workbench.recipe import Recipe

    network = _network(options)
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    model = load_model(options.model, architecture=options.architecture)
    data = load_data(options, model)
    source = prepare(model, data, recipe)
    if source.calibration is None or source.normalization is None:
        raise WorkbenchError(f"'{data.name}' has no calibration images, which the grid of a sent value needs.")
    graph = source.graph.build(source.compressed.tensors, source.compressed.grids)
    split = data[options.split]
    images = source.normalization(split.images[split.drawn(max(1, options.images))])
    yardstick = Yardstick.of(source.graph.build(source.compressed.tensors, {}), images[:1])
    device, server = pace_of(options.device, yardstick), pace_of(options.server, yardstick)
    slowdown = device.slower if options.slowdown is None else options.slowdown
    speedup = 1 / server.slower if options.speedup is None else options.speedup
    plan = plan_split(
        graph, source.calibration, images, network, slowdown=slowdown, speedup=speedup, bits=options.bits, tell=_tell
    )
    trial = None
    if options.cut:
        sending = min((cut for cut in plan.cuts if cut.bytes), key=lambda cut: cut.total_ms)
        part = find_part(parts_of(graph), sending.name if options.cut == "best" else options.cut)
        trial = try_split(part, source.calibration, images, options.bits)
    report = {
        "model": model.name, "dataset": data.name, "recipe": recipe.to_data(), **plan.to_json(),
        "device": None if options.slowdown is not None else device.to_json(),
        "server": None if options.speedup is not None else server.to_json(),
    }  # fmt: skip
    told = [pace.sentence for pace, typed in ((device, options.slowdown), (server, options.speedup)) if typed is None]
    if trial is not None:
        report["run"] = trial.to_json()
    print(json.dumps(report, indent=1) if options.json else _table(report, [line for line in told if line]))
    return 0


def _network(options: argparse.Namespace) -> Any:
    from workbench.deploy.split.plan import NETWORKS, Network

    if options.network not in NETWORKS:
        raise WorkbenchError(
            f"There is no network '{options.network}'; there is {', '.join(NETWORKS)}, or give --mbps and --rtt-ms."
        )
    known = NETWORKS[options.network]
    if options.mbps is None and options.rtt_ms is None:
        return known
    mbps = known.mbps if options.mbps is None else options.mbps
    return Network("given", mbps, known.rtt_ms if options.rtt_ms is None else options.rtt_ms)


def _tell(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\rsplit: {share:.0%}\x1b[K", end="" if share < 1 else "\n", file=sys.stderr, flush=True)


def _table(report: dict[str, Any], told: list[str]) -> str:
    network = report["network"]
    link = f"{network['name']} ({network['mbps']:g} Mbit/s, {network['rtt_ms']:g} ms there and back)"
    lines = [
        f"{report['model']} over {link}, a device {report['slowdown']:.3g}× slower than this machine and a server "
        f"{report['speedup']:.3g}× faster;",
        *told,
        f"one image, values of {counted(report['bits'], 'bit')}:",
        f"{'cut behind':<40}{'sent':>9}{'device ms':>11}{'network ms':>12}{'server ms':>11}{'total ms':>10}{'same':>8}",
    ]
    for cut in report["cuts"]:
        mark = "  ← quickest" if cut["name"] == report["best"] else ""
        lines.append(
            f"{cut['name']:<40}{cut['bytes']:>7,.0f} B{cut['device_ms']:>11.2f}{cut['network_ms']:>12.2f}"
            f"{cut['server_ms']:>11.2f}{cut['total_ms']:>10.2f}{cut['agreement']:>8.1%}{mark}"
        )
    run = report.get("run")
    if run is not None:
        same = "the same answers to the digit" if run["equal"] else "other answers"
        answers = f"{counted(run['images'], 'image')}, {same} as in one, {run['ms']:.2f} ms each"
        lines.append(f"Run as two processes at '{run['cut']}': {answers}.")
    return "\n".join(lines)
