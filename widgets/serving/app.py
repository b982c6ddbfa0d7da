"""``serve``: the app's notebook through Voila, offline, prompt, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
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
#: Names the folders that a kernel may load data from; unset means any, empty none.
DATA_FOLDERS = "WORKBENCH_DATA_FOLDERS"
#: Tells kernels what they may spend on figures that may be asked for (see ``workbench.foresight``).
FORESIGHT = "WORKBENCH_FORESIGHT"
#: Memory to reckon with for each page, and pages at most unless told otherwise.
KERNEL_BYTES, MOST_KERNELS = 2**30 // 3, 40
#: Idle seconds after which a page on a shared server makes room.
IDLE_SECONDS = 2 * 3600.0


class ServingError(WorkbenchError):
    """Why the app cannot be served, in one sentence."""


@dataclass(frozen=True)
class Options:
    """How to serve: what ``workbench app`` takes.

    ``port`` None takes 8866 or the next free one, 0 any. ``host_names`` are names that browsers may call this server
    by where no token is asked for, beside localhost: those of a proxy that passes them on. ``spare`` pages are kept
    ready, so that one that opens need not wait for torch. ``max_kernels`` None: as many as memory allows.
    ``data_folders`` are the folders that a page may load data from; beyond localhost none unless given. ``foresight``:
    processor seconds that a page may spend on figures its sliders may come to, 0 for none; None: as the engine has it.
    """

    port: int | None = None
    ip: str = "localhost"
    base_url: str = "/"
    host_names: tuple[str, ...] = ()
    open_browser: bool = True
    spare: int = 1
    max_kernels: int | None = None
    data_folders: tuple[Path, ...] = ()
    foresight: float | None = None
    notebook: Path = NOTEBOOK

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.ip in LOCAL


def serve(options: Options) -> None:
    """Serve the app until interrupted, printing its URL first.

    Listening beyond localhost asks for a token, which the URL carries. Raises ``ServingError`` where an
    option makes no sense, the notebook is missing, Voila is not installed or the port is taken.
    """
    check(options)
    prepare_environment(options)
    # jsonschema, which Jupyter's event log needs, would build the grammar of web addresses: one second
    # of a start, for a check that nothing here asks for.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    try:
        from .server import Server
    except ImportError as error:
        raise ServingError(
            f"Serving the app needs Voila ({error.name} is missing): install the 'app' extra."
        ) from error
    server = Server(config=configuration(options))
    server.wanted_ports = candidates(options.port)
    server.initialize([str(options.notebook)])
    server.start()


def check(options: Options) -> None:
    """Raise ``ServingError`` where the options cannot be followed."""
    if not options.notebook.exists():
        raise ServingError(f"The app's notebook is not at {options.notebook}; reinstall, or run from a checkout.")
    if options.max_kernels is not None and options.max_kernels < 1:
        raise ServingError(f"--max-kernels must be at least 1, not {options.max_kernels}.")
    if options.foresight is not None and not options.foresight >= 0:
        raise ServingError(f"--foresight must be a number of seconds, 0 for none, not {options.foresight:g}.")
    if options.port is not None and not 0 <= options.port < 2**16:
        raise ServingError(f"--port must be from 0 (any) to {2**16 - 1}, not {options.port}.")
    for folder in options.data_folders:
        if not folder.is_dir():
            raise ServingError(f"--data-folder: '{folder}' is not a folder.")


def prepare_environment(options: Options) -> None:
    """Set what this process and its kernels must see before torch or Jupyter are imported."""
    os.environ["WORKBENCH_SERVED"] = "1"  # pages may not write to this machine's disk
    # With the default policy idle OpenMP threads spin, and two pages slow each other tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # glibc otherwise keeps an arena for each of a kernel's many threads.
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    if options.foresight is not None:
        os.environ[FORESIGHT] = str(options.foresight)
    if options.data_folders or not options.local:
        os.environ[DATA_FOLDERS] = os.pathsep.join(str(folder.resolve()) for folder in options.data_folders)
    for name, folder in (("JUPYTER_PATH", SHARE), ("PYTHONPATH", ROOT)):
        others = [part for part in os.environ.get(name, "").split(os.pathsep) if part and part != str(folder)]
        os.environ[name] = os.pathsep.join([str(folder), *others])


def configuration(options: Options) -> Config:
    """Return Voila's settings: nothing from a network, nothing from disk but the page."""
    from traitlets.config import Config

    from .connection import PageConnection
    from .identity import PageIdentityProvider
    from .kernels import PageKernels

    config = Config()
    config.Voila.ip = options.ip
    config.Voila.base_url = base = "/" + "".join(f"{part}/" for part in options.base_url.split("/") if part)
    config.Voila.open_browser = options.open_browser
    config.Voila.auto_token = not options.local
    config.Voila.config_file_paths = []
    config.Voila.log_level = "ERROR"
    config.Voila.tornado_settings = {
        # The timeout must be longer than the interval, or the first ping closes the connection.
        "ws_ping_interval": 15_000,
        "ws_ping_timeout": 45_000,
        "xsrf_cookie_kwargs": {"path": base},
        "login_url": base + "login",
        # Where no token is asked for, a page of another site could otherwise call itself this machine by name (DNS
        # rebinding) and reach a kernel.
        "allow_remote_access": not options.local,
        "local_hostnames": ["localhost", *options.host_names],
    }
    config.Voila.identity_provider_class = PageIdentityProvider
    config.Voila.kernel_websocket_connection_class = PageConnection
    config.VoilaConfiguration.multi_kernel_manager_class = PageKernels
    config.VoilaConfiguration.template = "workbench"
    config.VoilaConfiguration.theme = "light"
    config.VoilaConfiguration.extension_allowlist = list(EXTENSIONS)
    config.PageKernels.spare = options.spare
    config.PageKernels.limit = options.max_kernels or places()
    # On one's own machine a page may stay open over night; on a shared one it makes room.
    config.PageKernels.idle_limit = 0.0 if options.local else IDLE_SECONDS
    config.PageKernels.cull_idle_timeout = config.PageKernels.cull_interval = 60
    if os.name == "posix":  # sockets in a private folder rather than open ports
        config.KernelManager.transport = "ipc"
    # A kernel restarted in place would know nothing of the page's widgets: the page is told instead.
    config.KernelRestarter.restart_limit = 0
    config.KernelRestarter.time_to_dead = 1.0
    config.ZMQChannelsWebsocketConnection.limit_rate = False
    return config


def places() -> int:
    """Return how many kernels this machine's free memory holds, up to 40."""
    return max(2, min(MOST_KERNELS, int(available_bytes() / KERNEL_BYTES)))


def available_bytes() -> int:
    """Return the memory that processes may still take: the machine's, or what a container leaves of it."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024)
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=4 * KERNEL_BYTES)


def candidates(port: int | None) -> Iterator[int]:
    """Yield the ports to try."""
    yield from (range(PORT, PORT + 20) if port is None else (port,))


def announce(url: str) -> None:
    """Print where the app is."""
    print(f"Compression Workbench: {url}", file=sys.stdout, flush=True)
