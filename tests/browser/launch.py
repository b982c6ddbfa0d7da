"""Start what the browser tests look at: the app as it is served, or JupyterLab, each on a free port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

ROOT = Path(__file__).parents[2]
CHROMIUM = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    pid: int


@contextmanager
def serve_app(home: Path, *options: str) -> Iterator[Served]:
    """Serve the real app, with its history in ``home``."""
    command = [sys.executable, "-m", "widgets.serving", "--port", "0", "--no-browser", *options]
    with _running(command, home, r"(http://\S+)") as (process, url):
        yield Served(url, process.pid)


@contextmanager
def serve_notebook(home: Path, notebook: Path) -> Iterator[Served]:
    """Serve another notebook as the app is served, with no page kept ready."""
    code = (
        "import sys; from pathlib import Path; from widgets.serving import Options, serve; "
        "serve(Options(port=0, open_browser=False, spare=0, notebook=Path(sys.argv[1])))"
    )
    with _running([sys.executable, "-c", code, str(notebook)], home, r"(http://\S+)") as (process, url):
        yield Served(url, process.pid)


@contextmanager
def serve_lab(home: Path, notebook: Path) -> Iterator[Served]:
    """Serve JupyterLab on ``notebook``'s folder, as ``make lab`` does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--ip=127.0.0.1", "--IdentityProvider.token=", f"--notebook-dir={notebook.parent}",
        "--ServerApp.kernel_websocket_connection_class=widgets.serving.connection.PromptConnection",
    ]  # fmt: skip
    with _running(command, home, r"(http://127\.0\.0\.1:\d+/lab)") as (process, url):
        yield Served(f"{url}/tree/{notebook.name}", process.pid)


@contextmanager
def serve_kernels(home: Path) -> Iterator[Served]:
    """Serve kernels alone, as an editor asks a Jupyter server for them."""
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--port=0", "--ip=127.0.0.1",
        "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--ServerApp.jpserver_extensions={}",
        f"--ServerApp.root_dir={home}",
        "--ServerApp.kernel_websocket_connection_class=widgets.serving.connection.PromptConnection",
    ]  # fmt: skip
    with _running(command, home, r"(http://127\.0\.0\.1:\d+)") as (process, url):
        yield Served(url, process.pid)


@contextmanager
def _running(command: list[str], home: Path, pattern: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    env = {**os.environ, "WORKBENCH_HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: Queue[str] = Queue()
    said: list[str] = []
    output = process.stdout or ()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in output], daemon=True)
    reader.start()
    try:
        while True:
            try:
                said.append(lines.get(timeout=60))
            except Empty as error:
                raise RuntimeError("The server never said where it is:\n" + "".join(said)) from error
            if found := re.search(pattern, said[-1]):
                break
        yield process, found[1]
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        reader.join(20)
        if process.stdout:
            process.stdout.close()
