"""Export: a recipe's model written for a runtime, opened there, and judged by what it answers there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.data.dataset import Dataset, Normalization, Split
from workbench.measure.estimate import Estimate
from workbench.measure.task import find_task
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.run.one_thread import one_thread
from workbench.run.runner import Runner, TorchRunner

from .benchmark.engines import KernelRow
from .format import Format, Source
from .formats import find_format
from .writing import prepare, ready_folder, write

#: Images a batch while a file is judged.
BATCH = 64
#: A file opens so often, and one image runs so often and so long at most, for the median.
_OPENINGS, _WARMUP, _RUNS, _SECONDS = 3, 5, 101, 1.0

Told = Callable[[str, float], None]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Export:
    """What was written, and what it does in its own runtime.

    ``accuracy`` is measured there, ``simulated`` in PyTorch under the same ``recipe`` (the one given, with
    what the format needs added to it); ``agreement`` is the share of images with the same answer in both.
    ``load_ms`` is the median time to open the file, ``ms`` of one image on one thread. What is measured in the
    runtime is None where that does not run on this machine.
    """

    model: str
    dataset: str
    recipe: Recipe
    format: Format
    files: tuple[tuple[Path, int], ...]
    runtime: str
    accuracy: Estimate | None
    simulated: Estimate | None
    agreement: Estimate | None
    largest_difference: float | None
    load_ms: float | None
    ms: float | None
    kernels: tuple[KernelRow, ...]
    remarks: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return what ``workbench export --json`` prints."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "recipe": self.recipe.to_data(),
            "recipe_hash": self.recipe.hash,
            "format": self.format.name,
            "files": [{"path": str(path), "bytes": size} for path, size in self.files],
            "bytes": self.nbytes,
            "runtime": self.runtime,
            "accuracy": self.accuracy.to_json() if self.accuracy else None,
            "simulated": self.simulated.to_json() if self.simulated else None,
            "agreement": self.agreement.to_json() if self.agreement else None,
            "largest_difference": self.largest_difference,
            "ms": self.ms,
            "load_ms": self.load_ms,
            "kernels": [row.to_json() for row in self.kernels],
            "remarks": list(self.remarks),
        }


def export(
    model: Model,
    data: Dataset,
    recipe: Recipe,
    format: str,
    folder: str | Path,
    *,
    split: str = "test",
    tell: Told = lambda what, share: None,
) -> Export:
    """Write ``model`` under ``recipe`` into ``folder`` and judge the file in its own runtime on ``split``.

    ``tell`` hears what is being done and how much of it is. Raises ``WorkbenchError``: an unknown format, a
    runtime that is not installed, a model that the format cannot hold, a folder that cannot be written.
    """
    chosen = find_format(format)
    chosen.require()
    data = data.in_order(model.classes)
    images = data[split]
    target = ready_folder(folder)
    recipe, added = chosen.complete(recipe, "calibration" in data.splits)
    tell("compressing", 0.0)
    source = prepare(model, data, recipe)
    tell("writing", 0.0)
    files = write(chosen, source, target)
    simulated = simulate(source, images, data.normalization, lambda share: tell("simulating in torch", share))
    return judge(chosen, source, files, data, split, simulated, added=added, tell=tell)


def simulate(
    source: Source, images: Split, normalization: Normalization, advance: Callable[[float], None] = lambda share: None
) -> Logits:
    """Return the logits ``(N, classes)`` of the compressed model in PyTorch."""
    runner = TorchRunner(source.compressed.fresh_module())
    return _run(runner, images, source.subject.model.normalization or normalization, advance)


def judge(
    chosen: Format,
    source: Source,
    files: tuple[Path, ...],
    data: Dataset,
    split: str,
    simulated: Logits,
    *,
    added: tuple[str, ...] = (),
    tell: Told = lambda what, share: None,
) -> Export:
    """Return what ``files`` of ``source`` do in the runtime of their format, beside the ``simulated`` logits."""
    model, images = source.subject.model, data[split]
    normalize = model.normalization or data.normalization
    classes = data.classes or tuple(map(str, range(simulated.shape[1])))
    task, labels = find_task(data.task, classes), images.labels if images.labelled else simulated.argmax(1)

    def exact(values: NDArray[np.float64]) -> Estimate:
        return Estimate.exact(float(values.mean()), len(values), split)

    export = Export(
        model=model.name,
        dataset=data.name,
        recipe=source.compressed.recipe,
        format=chosen,
        files=tuple((path, path.stat().st_size) for path in files),
        runtime=chosen.versioned_runtime(),
        accuracy=None,
        simulated=exact(task.score(simulated, labels)["accuracy"]) if images.labelled else None,
        agreement=None,
        largest_difference=None,
        load_ms=None,
        ms=None,
        kernels=(),
        remarks=(*added, *chosen.remarks(source), *source.compressed.notes),
    )
    if not chosen.runs_here:
        return export
    opened, load_ms = _open(chosen, files[0], source)
    found = _run(opened, images, normalize, lambda share: tell(f"running in {chosen.runtime}", share))
    scores = task.score(found, labels, simulated)
    image = normalize(images.images[:1]).contiguous()
    return replace(
        export,
        accuracy=exact(scores["accuracy"]) if images.labelled else None,
        agreement=exact(scores["agreement"]),
        largest_difference=float(np.abs(found - simulated).max()),
        load_ms=load_ms,
        ms=_time(lambda: chosen.open(files[0], 1, model.module), image),
        kernels=chosen.kernels(files[0], image),
    )


def _open(chosen: Format, path: Path, source: Source) -> tuple[Runner, float]:
    """Return the opened file and the median of the milliseconds it took; the first opening is not counted."""
    times = []
    for _ in range(1 + _OPENINGS):
        start = time.perf_counter()
        runner = chosen.open(path, architecture=source.subject.model.module)
        times.append(1000 * (time.perf_counter() - start))
        if sum(times) > 1000 * _SECONDS and times[1:]:
            break
    return runner, statistics.median(times[1:])


def _run(runner: Runner, split: Split, normalize: Normalization, advance: Callable[[float], None]) -> Logits:
    collected = []
    for first in range(0, len(split), BATCH):
        collected.append(runner.logits(normalize(split.images[first : first + BATCH]).contiguous()))
        advance(min(1.0, (first + BATCH) / len(split)))
    return np.concatenate(collected)


def _time(open_file: Callable[[], Runner], image: Tensor) -> float:
    """Return the median milliseconds of one image on one thread."""
    with one_thread():
        runner, times = open_file(), list[float]()
        for _ in range(_WARMUP):
            runner.logits(image)
        deadline = time.perf_counter() + _SECONDS
        while len(times) < _RUNS and (time.perf_counter() < deadline or not times):
            start = time.perf_counter()
            runner.logits(image)
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
