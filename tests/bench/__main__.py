"""Say what this machine is, then run the measuring commands one after another, each in its own process.

A fresh process each, because thread counts and caches of one would colour the figures of the next.
Exits with 1 when a command fails or misses what it must reach.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import time

from tests.bench.machine import machine_name, versions

COMMANDS = (
    "estimator",
    "latency",
    "predicted",
    "half_macs",
    "devices",
    "page",
    "pages",
    "large",
    "engine",
    "live",
    "evaluation",
    "sensitivity",
    "allocation",
    "joint",
    "deep_compression",
    "zoo_int8",
    "exports",
    "low_bits",
    "recalibration",
    "classes",
    "history",
    "microcontroller",
    "pipeline",
    "monitor",
    "scaling",
)
#: Those that train: minutes to hours each, run by name alone; their records are kept in ``records``.
LONG = (
    "training_kills",
    "training_slider",
    "training_deep_compression",
    "training_tickets",
    "training_students",
    "training_bayesian",
    "training_resnet20",
    "training_latency",
    "synthetic",
)


def main() -> int:
    """Run the commands named, or all, and return the exit status."""
    available = [name for name in COMMANDS if importlib.util.find_spec(f"tests.bench.{name}")]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    help = f"one of {', '.join(available)}; or, minutes to hours each and only by name, {', '.join(LONG)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=help)
    names = parser.parse_args().names or available
    unknown = sorted(set(names) - {*available, *LONG})
    if unknown:
        known = ", ".join((*available, *LONG))
        parser.error(f"no measuring command is named {', '.join(unknown)}; there are {known}")
    print(describe_machine(), flush=True)
    failed = [name for name in names if not _run(name)]
    print(f"\n{len(names) - len(failed)} of {len(names)} passed", *(f"· {name} failed" for name in failed))
    return 1 if failed else 0


def describe_machine() -> str:
    """Return two lines: the machine and how busy it is, and the versions that were measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}"
    python, *libraries = (f"{name} {found}" for name, found in versions().items())
    return (
        f"{machine_name()}, {memory:.0f} GiB, {system}, "
        f"load {os.getloadavg()[0]:.2f}, {time.strftime('%Y-%m-%d %H:%M')}\n"
        f"{python.capitalize()}, {', '.join(libraries)}"
    )


def _run(name: str) -> bool:
    print(f"\n── {name} " + "─" * (76 - len(name)), flush=True)
    start = time.perf_counter()
    command = [sys.executable, "-m", f"tests.bench.{name}"]
    done = subprocess.run(command, env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ}, check=False)
    print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
