"""The ``workbench`` command: a verb a file, each with ``add``, which declares it, and what it runs.

Exit status 0 when done, 2 for bad input with one sentence on stderr. Torch is imported only by the verbs
that need it, when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from workbench.errors import WorkbenchError

from . import (
    allocate,
    app,
    benchmark,
    compare,
    evaluate,
    export,
    history,
    listings,
    pipeline,
    profile,
    report,
    sensitivity,
    serve_monitor,
    split,
    train,
)

#: In the order in which ``--help`` tells them.
VERBS = (
    evaluate, profile, compare, sensitivity, allocate, train, export, benchmark, split, pipeline, report,
    serve_monitor, history, listings, app,
)  # fmt: skip

#: What the system says where a file or a disk takes no more.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        if sys.stdout is not None:  # as it is where it was closed
            sys.stdout.flush()  # what could not be written is told here, rather than as Python ends
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"workbench: The answer could not be written: {os.strerror(error.errno or 0)}.", file=sys.stderr)
        _forget_answer()
        return 2
    return status


def _forget_answer() -> None:
    """Let nothing of the answer be written as Python ends: it would fail again, in other words."""
    with contextlib.suppress(OSError, ValueError):  # where standard output is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench", description="Compress neural networks, and see what it costs in accuracy."
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for verb in VERBS:
        verb.add(verbs)
    return parser
