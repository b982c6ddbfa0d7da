"""``serve``: the app's notebook through Voila, offline, prompt, and leaving nothing behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[2]
_CHECKOUT = ROOT / "notebooks" / "app.ipynb"
#: In a checkout, or where the wheel carries it.
NOTEBOOK = _CHECKOUT if _CHECKOUT.exists() else ROOT / "workbench" / "_notebooks" / "app.ipynb"
SHARE = Path(__file__).parent / "share"
PORT = 8866
#: Voila loads every labextension it finds, and some break it; these are what the page needs.
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget")
LOCAL = ("localhost", "127.0.0.1", "::1")


class ServingError(WorkbenchError):
    """Why the app cannot be served, in one sentence."""


def serve(
    port: int | None = None,
    *,
    ip: str = "localhost",
    base_url: str = "/",
    open_browser: bool = True,
    pool: int = 1,
    notebook: Path = NOTEBOOK,
) -> None:
    """Serve the app until interrupted, printing its URL first.

    ``port`` None takes 8866 or the next free one, 0 any. ``pool`` kernels are started ahead, so that a
    page need not wait for torch. Listening beyond localhost asks for a token, which the URL carries.
    Raises ``ServingError`` where the notebook is missing, Voila is not installed or the port is taken.
    """
    if not notebook.exists():
        raise ServingError(f"The app's notebook is not at {notebook}; reinstall, or run from a checkout.")
    prepare_environment()
    try:
        from .server import Server
    except ImportError as error:
        raise ServingError(
            f"Serving the app needs Voila ({error.name} is missing): install the 'app' extra."
        ) from error
    server = Server(config=configuration(ip, base_url, pool, open_browser))
    server.wanted_ports = candidates(port)
    server.initialize([str(notebook)])
    server.start()


def prepare_environment() -> None:
    """Set what this process and its kernels must see before torch or Jupyter are imported."""
    # With the default policy idle OpenMP threads spin, and two pages slow each other tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    for name, folder in (("JUPYTER_PATH", SHARE), ("PYTHONPATH", ROOT)):
        others = [part for part in os.environ.get(name, "").split(os.pathsep) if part and part != str(folder)]
        os.environ[name] = os.pathsep.join([str(folder), *others])


def configuration(ip: str, base_url: str, pool: int, open_browser: bool) -> Config:
    """Return Voila's settings: nothing from a network, nothing from disk but the page."""
    from traitlets.config import Config

    from .connection import PageConnection
    from .identity import PageIdentityProvider

    config = Config()
    config.Voila.ip = ip
    config.Voila.base_url = base_url if base_url.endswith("/") else base_url + "/"
    config.Voila.open_browser = open_browser
    config.Voila.auto_token = ip not in LOCAL
    config.Voila.config_file_paths = []
    config.Voila.log_level = "ERROR"
    config.Voila.tornado_settings = {"ws_ping_interval": 30_000, "ws_ping_timeout": 30_000}
    config.Voila.identity_provider_class = PageIdentityProvider
    config.Voila.kernel_websocket_connection_class = PageConnection
    config.VoilaConfiguration.template = "workbench"
    config.VoilaConfiguration.theme = "light"
    config.VoilaConfiguration.preheat_kernel = pool > 0
    config.VoilaConfiguration.default_pool_size = pool
    config.VoilaConfiguration.extension_allowlist = list(EXTENSIONS)
    config.VoilaConfiguration.file_allowlist = []
    config.VoilaConfiguration.file_denylist = [".*"]
    if os.name == "posix":  # sockets in a private folder rather than open ports
        config.KernelManager.transport = "ipc"
    config.ZMQChannelsWebsocketConnection.limit_rate = False
    # Not at once: a kernel that starts takes the processor from the page that has just opened.
    config.VoilaKernelManager.fill_delay = 5
    config.MappingKernelManager.cull_idle_timeout = 600
    config.MappingKernelManager.cull_interval = 60
    return config


def candidates(port: int | None) -> Iterator[int]:
    """Yield the ports to try."""
    yield from (range(PORT, PORT + 20) if port is None else (port,))


def announce(url: str) -> None:
    """Print where the app is."""
    print(f"Compression Workbench: {url}", file=sys.stdout, flush=True)
