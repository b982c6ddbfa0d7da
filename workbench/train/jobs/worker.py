"""The process that trains: ``python -m workbench.train.jobs.worker``, started by ``workbench.train.jobs.job``.

It is one of its own, with one core and low priority, so that the page stays instant and a crash harms
nothing. What it needs comes through its standard input, from its own parent and nobody else: the size of a
pickled request as eight bytes, the request, then lines with commands (``pause``, ``resume``, ``stop``). The end
of the input means that the parent is gone; then it keeps what it has and ends. Standard output carries a line
of JSON for every progress; what libraries print goes to standard error.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from workbench.encodings.artefacts import Artefact
from workbench.errors import WorkbenchError
from workbench.techniques.trained import TrainingSettings

from ..images.passes import TrainingImages
from ..loop.loop import Course, Outcome, Stopped, Trainer
from ..methods import METHODS
from ..student import Student


@dataclass(frozen=True, eq=False)
class Request:
    """What a worker is asked to train, and where it leaves checkpoint and result.

    ``judge`` is the hash of the split that ``validation`` is of.
    """

    technique: str
    settings: TrainingSettings
    student: Student
    teacher: nn.Module
    images: TrainingImages
    validation: tuple[Tensor, Tensor]
    checkpoint: Path
    result: Path
    threads: int = 1
    judge: str = ""


class _Commands:
    """The commands that arrive while training."""

    def __init__(self, lines: IO[bytes]) -> None:
        self._going = threading.Event()
        self._going.set()
        self._stop = False
        threading.Thread(target=self._listen, args=(lines,), daemon=True).start()

    def check(self) -> None:
        """Wait while paused; raise ``Stopped`` where training is to end."""
        self._going.wait()
        if self._stop:
            raise Stopped

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            command = line.strip()
            if command == b"pause":
                self._going.clear()
            elif command == b"resume":
                self._going.set()
            elif command == b"stop":
                break
        self._stop = True
        self._going.set()


def main() -> int:
    """Train what standard input asks for."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = io.FileIO(0, closefd=False)  # unbuffered: no lock is held by who waits for a command
    size = int.from_bytes(_read(asked, 8), "big")
    request: Request = pickle.loads(_read(asked, size))
    with suppress(OSError):
        os.nice(10)
    torch.set_num_threads(request.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)

    def tell(kind: str, **what: Any) -> None:
        with suppress(BrokenPipeError):
            print(json.dumps({"kind": kind, **what}), file=told, flush=True)

    try:
        outcome = work(request, _Commands(asked).check, lambda course: tell("course", **course))
    except Stopped:
        tell("stopped")
        return 0
    except WorkbenchError as error:
        tell("failed", error=str(error))
        return 1
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        tell("failed", error=f"Training failed ({type(error).__name__}: {reason}).")
        raise
    tell("done", seconds=outcome.seconds)
    return 0


def _read(stream: IO[bytes], size: int) -> bytes:
    """Return exactly ``size`` bytes, or fewer where the stream ends."""
    parts = bytearray()
    while len(parts) < size and (part := stream.read(min(size - len(parts), 2**24))):
        parts += part
    return bytes(parts)


def work(request: Request, check: Callable[[], None], follow: Callable[[dict[str, Any]], None]) -> Outcome:
    """Train what is asked for and leave the result where the request says; ``follow`` is told the course."""

    def report(course: Course) -> None:
        curve = [asdict(point) for point in course.curve]
        follow({"step": course.step, "seconds": course.seconds, "before": course.before, "curve": curve,
                "note": course.note})  # fmt: skip

    trainer = Trainer(
        request.student,
        METHODS[request.technique](request.settings),
        request.teacher,
        request.images,
        request.validation,
        request.checkpoint,
        check,
        report,
    )
    outcome = trainer.run()
    about = {
        "technique": request.technique,
        "settings": request.settings.model_dump(mode="json"),
        "before": outcome.before.to_json(),
        "after": outcome.after.to_json(),
        "seconds": outcome.seconds,
        "stopped": outcome.stopped,
        "note": outcome.note,
        "curve": [asdict(point) for point in outcome.curve],
        "judge": request.judge,
        "torch": torch.__version__,
    }
    Artefact(outcome.learned, about).save(request.result)
    request.checkpoint.unlink(missing_ok=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
