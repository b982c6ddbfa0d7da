"""The workers of a Dask cluster, on as many machines as it has.

They need this package installed in the same version. A kit goes to them as a plugin, which the scheduler also gives
to workers that come later, such as those that take the place of one that died.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from workbench.errors import WorkbenchError

from .executor import AHEAD, Crew, Held, Kit, packed

A = TypeVar("A", contravariant=True)
R = TypeVar("R", covariant=True)

#: Seconds in which a scheduler must answer, and in which it must have a worker.
PATIENCE = 5.0


class Cluster:
    """The workers of the scheduler at ``address``, such as ``tcp://10.0.0.5:8786``.

    Raises ``WorkbenchError`` where there is no scheduler, where it has no workers, or where ``distributed`` is not
    installed.
    """

    remote = True

    def __init__(self, address: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise WorkbenchError(
                "Working on many machines needs Dask: pip install 'compression-workbench[cluster]'."
            ) from error
        self.address = address if "://" in address else f"tcp://{address}"
        _require_listener(self.address)
        try:
            client: Any = distributed  # its functions have no types
            self._client = client.Client(self.address, timeout=PATIENCE, set_as_default=False)
        except Exception as error:  # each transport has errors of its own
            raise _unanswered(self.address) from error
        with contextlib.suppress(Exception):
            self._client.wait_for_workers(1, timeout=PATIENCE)
        if not self.workers:
            self.close()
            raise WorkbenchError(
                f"The scheduler at {self.address} has no workers: start some with `dask worker {self.address}`."
            )

    @property
    def workers(self) -> int:
        """Tasks done at a time: the threads of all workers."""
        return sum(self._client.nthreads().values())

    def open(self, kit: Kit[A, R]) -> Crew[A, R]:
        """Give every worker a copy of the kit, and those that come later."""
        return _Crew(self._client, packed(kit), self)

    def close(self) -> None:
        """Leave the cluster; it goes on without us."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=PATIENCE)


class _Crew(Crew[A, R]):
    def __init__(self, client: Any, content: bytes, cluster: Cluster) -> None:
        self._client, self._cluster = client, cluster
        self._name = f"workbench-{uuid.uuid4().hex[:12]}"
        self._numbers = itertools.count()
        self._futures: list[Any] = []
        client.register_plugin(_plugin(content), name=self._name)

    def run(self, tasks: Sequence[A]) -> Iterator[tuple[int, R]]:
        import distributed

        rest = iter(enumerate(tasks))
        first = list(itertools.islice(rest, self._cluster.workers * (1 + AHEAD)))
        waiting = {self._submit(task): number for number, task in first}
        if not waiting:
            return
        library: Any = distributed
        coming = library.as_completed(list(waiting), loop=self._client.loop)
        for future in coming:
            number, result = waiting.pop(future), self._result(future)
            self._futures.remove(future)
            for following, task in itertools.islice(rest, 1):
                fresh = self._submit(task)
                waiting[fresh] = following
                coming.add(fresh)
            yield number, result

    def close(self) -> None:
        """Give up what is being done, and take the kit away from the workers."""
        with contextlib.suppress(Exception):
            self._client.cancel(self._futures)
        with contextlib.suppress(Exception), _quiet():
            self._client.unregister_worker_plugin(self._name)

    def _submit(self, task: Any) -> Any:
        # a key of its own: the same task asked for twice is done twice
        future = self._client.submit(_do, self._name, task, key=f"{self._name}-{next(self._numbers)}", pure=False)
        self._futures.append(future)
        return future

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except ModuleNotFoundError as error:
            raise WorkbenchError(
                f"The workers of {self._cluster.address} cannot import '{error.name}': install there what is here."
            ) from error
        except WorkbenchError:
            raise
        except Exception as error:
            text = str(error).strip().splitlines()
            raise WorkbenchError(
                f"A task failed on the cluster {self._cluster.address} ({type(error).__name__}: "
                f"{text[0][:160] if text else 'no more is known'})."
            ) from error


def _plugin(content: bytes) -> Any:
    from distributed import WorkerPlugin

    class Kept(WorkerPlugin):
        """Holds a kit in a worker."""

        def setup(self, worker: Any) -> None:
            self.held = Held(content)

    return Kept()


def _do(plugin: str, task: Any) -> Any:
    from distributed import get_worker

    kept: Any = get_worker().plugins[plugin]
    return kept.held(task)


def _require_listener(address: str) -> None:
    """Raise at once where nothing listens: Dask itself tries again until its time is over."""
    parts = urlsplit(address)
    if parts.scheme not in ("tcp", "tls"):
        return
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise WorkbenchError(f"'{address}' is no scheduler's address; one looks like tcp://10.0.0.5:8786.")
    try:
        socket.create_connection((parts.hostname, port), PATIENCE).close()
    except OSError as error:
        raise _unanswered(address) from error


def _unanswered(address: str) -> WorkbenchError:
    return WorkbenchError(
        f"No scheduler answers at {address}: start one with `dask scheduler`, and workers with `dask worker {address}`."
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the library says to itself while we leave out of the person's terminal."""
    log = logging.getLogger("distributed")
    before, log.level = log.level, logging.CRITICAL
    try:
        yield
    finally:
        log.setLevel(before)
