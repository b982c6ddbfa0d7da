"""What several verbs share: the model and data options, reading a recipe, progress."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.data.dataset import Dataset
    from workbench.jobs import Job, Progress
    from workbench.models.model import Model

#: Seconds from one line of progress to the next where standard error is a file or a pipe.
LOG_PACE = 10.0

Verbs = argparse._SubParsersAction  # what add_subparsers gives; argparse has no public name for it


def add_subject(verb: argparse.ArgumentParser, split: str | None = "test") -> None:
    """Add the options that name the model and the data, and the split where the person may choose it."""
    verb.add_argument("--model", required=True, metavar="M", help="zoo name, file, or torchvision:NAME")
    verb.add_argument("--data", required=True, metavar="D", help="name, folder of images, .npz or .parquet")
    verb.add_argument("--architecture", metavar="NAME", help="zoo architecture of a state-dict file")
    if split is not None:
        verb.add_argument("--split", default=split, help=f"split to report on (default: {split})")


def add_synthetic(verb: argparse.ArgumentParser) -> None:
    """Add ``--synthetic``."""
    verb.add_argument(
        "--synthetic", metavar="SOURCE",
        help="calibrate and train on images made up instead: deepinversion, impressions, noise, gan, class_gan or "
        "mixup, with settings behind it where wanted, as in gan,images=2000,seed=1",
    )  # fmt: skip


def load_data(options: argparse.Namespace, model: Model) -> Dataset:
    """Return the data, images of a folder as the model takes them; made ones to learn from with ``--synthetic``.

    What is made takes a verb with ``add_synthetic``.
    """
    from workbench.data.fitting import load_fitting
    from workbench.train.synthetic import Synthesis, synthesizing

    data = load_fitting(options.data, model.input_shape, model.classes)
    if getattr(options, "synthetic", None) is None:
        return data
    job = synthesizing(model, data, Synthesis.parse(options.synthetic))
    follow(job)
    return job.result()


def add_json(verb: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    verb.add_argument("--json", action="store_true", help="print JSON")


def read_recipe(path: str) -> str:
    """Return a recipe's text from a file, or from standard input for '-'."""
    if path == "-":
        return sys.stdin.read()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise WorkbenchError(f"The recipe file '{path}' cannot be read: {reason}.") from error


def require_packed(path: str | None, option: str) -> None:
    """Raise ``WorkbenchError`` where a packed model would be called otherwise, and might take a model's own place."""
    ending = Path(path or "").suffix.lower()
    if ending in {".onnx", ".pt", ".pth", ".safetensors"}:
        raise WorkbenchError(
            f"{option} writes a packed model, which '{path}' would not be: call it '{Path(path or '').stem}.wbz', or "
            f"have workbench export write other formats."
        )


@contextlib.contextmanager
def answer_alone() -> Iterator[None]:
    """Send to standard error what libraries print by themselves, as HiGHS does now and then: the answer stands alone.

    They write to the file that standard output is, past Python, and may hold it back until they are asked.
    """

    def flush() -> None:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # where C's library has another name
            ctypes.CDLL(None).fflush(None)

    sys.stdout.flush()
    flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        flush()
        os.dup2(kept, 1)
        os.close(kept)


def follow(job: Job[Any]) -> None:
    """Tell a job's progress on standard error: on one line where a person is looking, else a line now and then."""
    looked_at = sys.stderr.isatty()
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        left = f", {progress.left:.0f} s left" if progress.left is not None else ""
        text = f"{job.name}: {progress.share:.0%}{left}"
        if looked_at:
            end = "" if progress.state == "running" else "\n"
            print(f"\r{text}\x1b[K", end=end, file=sys.stderr, flush=True)
        elif progress.state == "running" and progress.seconds - told >= LOG_PACE:
            told = progress.seconds
            print(text, file=sys.stderr, flush=True)

    job.subscribe(tell)
