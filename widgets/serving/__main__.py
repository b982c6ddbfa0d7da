"""``python -m widgets.serving [--port N] [--no-browser]``: serve the app."""

from __future__ import annotations

import argparse
from pathlib import Path

from .app import NOTEBOOK, serve

parser = argparse.ArgumentParser(prog="python -m widgets.serving", description="Serve the Compression Workbench.")
parser.add_argument("--port", type=int, default=None, help="0 takes any free port (default: 8866, or the next free)")
parser.add_argument("--ip", default="localhost", help="address to listen on; beyond localhost a token is asked for")
parser.add_argument("--base-url", default="/", help="path under which a proxy serves the app")
parser.add_argument("--notebook", type=Path, default=NOTEBOOK, help=argparse.SUPPRESS)
parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
parser.add_argument("--pool", type=int, default=1, help="kernels kept ready for the next page")

if __name__ == "__main__":
    given = parser.parse_args()
    serve(
        given.port, ip=given.ip, base_url=given.base_url, open_browser=not given.no_browser, pool=given.pool,
        notebook=given.notebook,
    )  # fmt: skip
