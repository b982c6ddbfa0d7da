"""``workbench app``: serve the page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

from .common import Verbs


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("app", help="serve the app and print its URL")
    verb.add_argument("--port", type=int, metavar="N", help="port, 0 for any (default: 8866, or the next free one)")
    verb.add_argument(
        "--ip",
        default="localhost",
        metavar="ADDRESS",
        help="address to listen on, 0.0.0.0 for all; beyond localhost a token is asked for (default: localhost)",
    )
    verb.add_argument("--base-url", default="/", metavar="/PATH/", help="path under which a proxy serves the app")
    verb.add_argument(
        "--host-name",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which a proxy on this machine passes requests on; may be repeated (default: localhost only)",
    )
    verb.add_argument(
        "--max-kernels", type=int, metavar="N", help="pages open at once, at most (default: as many as memory allows)"
    )
    verb.add_argument(
        "--data-folder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder that pages may load data from; may be repeated (default: any on localhost, none beyond)",
    )
    verb.add_argument(
        "--pool", type=int, default=1, metavar="N", help="pages kept ready for who comes next (default: 1)"
    )
    verb.add_argument(
        "--foresight",
        type=float,
        metavar="SECONDS",
        help="processor seconds that a page may spend on figures its sliders may come to (default: 240)",
    )
    verb.add_argument("--no-browser", action="store_true", help="do not open a browser")
    verb.set_defaults(run=_app)


def _app(options: argparse.Namespace) -> int:
    from importlib import import_module

    try:
        serving = import_module("widgets.serving")
    except ImportError as error:
        raise WorkbenchError(f"The app needs '{error.name}': install compression-workbench[app].") from error
    try:
        serving.serve(
            serving.Options(
                port=options.port,
                ip=options.ip,
                base_url=options.base_url,
                host_names=tuple(options.host_name),
                open_browser=not options.no_browser,
                spare=options.pool,
                max_kernels=options.max_kernels,
                data_folders=tuple(options.data_folder),
                foresight=options.foresight,
            )
        )
    except serving.ServingError as error:
        raise WorkbenchError(str(error)) from error
    return 0
