"""Make ``datasets/published_latencies`` anew from the sources that its card names.

``python -m tests.bench.published NCNN TINY`` takes checkouts of Tencent/ncnn and of
mlcommons/tiny_results_v1.0 (with their files in place), reads the tables and the networks' layers, and writes
``networks.csv`` and ``latencies.csv``. Which tables are taken, and what the data sheets of their chips say, is
``configurations.csv``, written by hand.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "datasets" / "published_latencies"
#: Boxes and anchors of detectors are found on the CPU by code that is no kernel of a network.
LEFT_OUT = {"mobilenet_ssd", "squeezenet_ssd"}
#: What moves nothing, or is done while loading.
FREE = {"Input", "Split", "Flatten", "Reshape", "Noop", "PriorBox", "Slice", "Crop", "Dropout",
        "YoloDetectionOutput", "Yolov3DetectionOutput"}  # fmt: skip

Shape = tuple[int, int, int]
#: operator, input and output channels, multiply-accumulates, activations read and written, weights
Row = tuple[str, int, int, int, int, int]


def main() -> int:
    """Write both tables."""
    ncnn, tiny = Path(sys.argv[1]), Path(sys.argv[2])
    networks = {path.stem: rows for path in sorted((ncnn / "benchmark/models").glob("*.param"))
                if (rows := list(read_param(path))) and path.stem.removesuffix("_int8") not in LEFT_OUT
                and not path.stem.endswith("_int8")}  # fmt: skip
    networks |= {name: list(build()) for name, build in TINY.items()}
    write("networks.csv", ("network", "op", "inputs", "outputs", "macs", "activations", "weights", "count"), (
        (name, *row, count) for name, rows in networks.items() for row, count in Counter(rows).items()
    ))  # fmt: skip
    with (FOLDER / "configurations.csv").open() as file:
        configurations = list(csv.DictReader(file))
    found = [*ncnn_latencies(ncnn / "benchmark/README.md", configurations, networks)]
    found += tiny_latencies(tiny, configurations)
    write("latencies.csv", ("configuration", "dtype", "network", "ms", "microjoules"), found)
    return 0


def write(name: str, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    with (FOLDER / name).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_param(path: Path) -> Iterator[Row]:
    """Yield the operators of an ncnn network whose file declares the shapes; nothing where it doesn't."""
    shapes: dict[str, Shape] = {}
    lines = [line.split() for line in path.read_text().splitlines()[2:]]
    if sum("-23330=" in word for line in lines for word in line) < len(lines) - 6:
        return
    for kind, _, ins, outs, *rest in lines:
        sources, targets = rest[: int(ins)], rest[int(ins) : int(ins) + int(outs)]
        settings = dict(word.split("=", 1) for word in rest[int(ins) + int(outs) :])
        declared = [int(value) for value in settings.pop("-23330", "0").split(",")[1:]]
        for place, target in enumerate(targets):
            if declared:
                shapes[target] = _shape(declared[4 * place : 4 * place + 4])
        known = [shapes[name] for name in sources if name in shapes]
        if kind not in FREE and known and targets[0] in shapes:
            yield _row(kind, known, shapes[targets[0]], settings)


def _shape(entry: list[int]) -> Shape:
    rank, width, height, channels = entry
    return (channels, height, width) if rank == 3 else (height, 1, width) if rank == 2 else (width, 1, 1)


def _row(kind: str, sources: list[Shape], target: Shape, settings: dict[str, str]) -> Row:
    size = [a * b * c for a, b, c in (*sources, target)]
    inputs, outputs = sources[0][0], target[0]
    if kind == "InnerProduct":
        weights = int(settings["2"])
        return "dense", inputs, int(settings["0"]), weights, sum(size), weights
    if "Convolution" not in kind and "Deconvolution" not in kind:
        return "elementwise", inputs, outputs, 0, sum(size), 0
    width, groups, weights = int(settings["1"]), int(settings.get("7", 1)), int(settings["6"])
    height, stride = int(settings.get("11", width)), int(settings.get("3", 1))
    op = _convolution(width, height, stride, int(settings.get("2", 1)), groups, inputs, outputs)
    return op, inputs, outputs, weights // outputs * size[-1], sum(size), weights


def _convolution(width: int, height: int, stride: int, dilation: int, groups: int, inputs: int, outputs: int) -> str:
    if groups > 1:
        return "depthwise" if groups == inputs == outputs else "grouped"
    if width == height == 1:
        return "conv1x1"
    return "conv3x3" if width == height == 3 and stride == dilation == 1 else "conv"


def ncnn_latencies(
    readme: Path, configurations: list[dict[str, str]], networks: dict[str, list[Row]]
) -> Iterator[tuple[object, ...]]:
    """Yield the least times of the tables that ``configurations`` name by heading, threads, cores and GPU."""
    wanted = {row["table"]: row["configuration"] for row in configurations if row["runtime"].startswith("ncnn")}
    heading, settings, name = "", {}, ""
    for line in readme.read_text().splitlines():
        if line.startswith("### "):
            heading = line[4:].strip()
        elif setting := re.match(r"\s*(loop_count|num_threads|powersave|gpu_device) = (-?\d+)", line):
            settings = {} if setting[1] == "loop_count" else settings
            settings[setting[1]] = setting[2]
        elif row := re.match(r"\s*(\S+)\s+min =\s*([\d.]+)", line):
            if settings:
                key = "|".join(
                    (heading, *(settings.get(one, "-1") for one in ("num_threads", "powersave", "gpu_device")))
                )
                name = wanted.pop(key, "")  # of several tables with the same settings, the first
                settings = {}
            network, dtype = row[1].removesuffix("_int8"), "int8" if row[1].endswith("_int8") else "float"
            gpu = name.endswith("-gpu")  # there ncnn runs 8-bit networks on the CPU
            if name and network in networks and not (gpu and dtype == "int8"):
                yield name, dtype, network, row[2], ""


def tiny_latencies(folder: Path, configurations: list[dict[str, str]]) -> Iterator[tuple[object, ...]]:
    """Yield median times, and energies where they were measured, of MLPerf Tiny's closed division."""
    for row in configurations:
        if row["runtime"].startswith("ncnn"):
            continue
        for short, network in {
            "ic": "resnet8",
            "vww": "mobilenet_v1_025",
            "kws": "ds_cnn",
            "ad": "autoencoder",
        }.items():
            place = folder / "closed" / row["table"] / short
            rate = _last(place / "performance/results.txt", r"[Mm]edian throughput is\s+([\d.]+)")
            energy = _last(place / "energy/results.txt", r"[Mm]edian energy (?:cost )?is\s+([\d.]+)")
            if rate:
                yield row["configuration"], "int8", network, f"{1000 / float(rate):.4g}", energy


def _last(path: Path, pattern: str) -> str:
    found = re.findall(pattern, path.read_text(errors="replace")) if path.is_file() else []
    return found[-1] if found else ""


class _Net:
    """Writes down the operators of a small network, following the shape."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.shape = (channels, height, width)
        self.rows: list[Row] = []

    def conv(
        self, outputs: int, height: int = 3, width: int = 3, stride: int = 1, source: Shape | None = None
    ) -> Shape:
        inputs, rows, columns = source or self.shape
        target = (outputs, -(-rows // stride), -(-columns // stride))
        weights, size = inputs * outputs * height * width, target[1] * target[2]
        op = _convolution(width, height, stride, 1, 1, inputs, outputs)
        moved = inputs * rows * columns + outputs * size
        self.rows.append((op, inputs, outputs, weights * size, moved, weights))
        self.shape = target
        return target

    def depthwise(self, stride: int = 1) -> None:
        channels, rows, columns = self.shape
        target = (channels, -(-rows // stride), -(-columns // stride))
        size = channels * target[1] * target[2]
        self.rows.append(("depthwise", channels, channels, 9 * size, channels * rows * columns + size, 9 * channels))
        self.shape = target

    def add(self) -> None:
        size = self.shape[0] * self.shape[1] * self.shape[2]
        self.rows.append(("elementwise", self.shape[0], self.shape[0], 0, 3 * size, 0))

    def pool(self) -> None:
        channels, rows, columns = self.shape
        self.rows.append(("elementwise", channels, channels, 0, channels * (rows * columns + 1), 0))
        self.shape = (channels, 1, 1)

    def dense(self, outputs: int) -> None:
        inputs = self.shape[0] * self.shape[1] * self.shape[2]
        self.rows.append(("dense", inputs, outputs, inputs * outputs, inputs + outputs, inputs * outputs))
        self.shape = (outputs, 1, 1)


def _resnet8() -> list[Row]:
    net = _Net(3, 32, 32)
    net.conv(16)
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        source = net.shape
        net.conv(outputs, stride=stride)
        net.conv(outputs)
        if stride == 2:
            net.conv(outputs, 1, 1, 2, source)
        net.add()
    net.pool()
    net.dense(10)
    return net.rows


def _mobilenet_v1() -> list[Row]:
    net = _Net(3, 96, 96)
    net.conv(8, stride=2)
    for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)):
        net.depthwise(stride)
        net.conv(outputs, 1, 1)
    net.pool()
    net.dense(2)
    return net.rows


def _ds_cnn() -> list[Row]:
    net = _Net(1, 49, 10)
    net.conv(64, 10, 4, stride=2)
    for _ in range(4):
        net.depthwise()
        net.conv(64, 1, 1)
    net.pool()
    net.dense(12)
    return net.rows


def _autoencoder() -> list[Row]:
    net = _Net(640, 1, 1)
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128, 640):
        net.dense(outputs)
    return net.rows


#: The four networks of MLPerf Tiny (Banbury et al. 2021).
TINY = {"resnet8": _resnet8, "mobilenet_v1_025": _mobilenet_v1, "ds_cnn": _ds_cnn, "autoencoder": _autoencoder}

if __name__ == "__main__":
    sys.exit(main())
