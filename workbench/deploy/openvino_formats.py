"""OpenVINO's IR: an ``.xml`` graph beside a ``.bin`` of weights, run by OpenVINO on the CPU."""

from __future__ import annotations

import re
import tempfile
import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.recipe import Recipe
from workbench.run.runner import Runner, Stopped

from .format import Format, FormatError, Source
from .limits import floats_in, zeros_stay
from .normalizing import MEAN, STD, entries
from .onnx_formats import OnnxFloat
from .onnx_int8 import int8_model, int8_remarks, with_int8
from .onnx_weights import OnnxInt4, weights_model

if TYPE_CHECKING:
    from onnx import ModelProto


class OpenVinoRunner:
    """Runs a compiled model on this machine's CPU; a thread that comes while another's batch runs waits for it.

    ``takes`` and ``metadata`` are as an ``OnnxRunner``'s.
    """

    runtime = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        try:
            model = core.read_model(path)
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise FormatError(f"OpenVINO cannot open {path.name}: {str(error).splitlines()[-1][:200]}") from error
        self.takes = tuple(side.get_length() if side.is_static else None for side in model.inputs[0].partial_shape)
        self.metadata = {key: str(model.get_rt_info(key).value) for key in (MEAN, STD) if model.has_rt_info(key)}
        self._turn = threading.Lock()
        self._stopped = False

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits of one batch."""
        if self._stopped:
            raise Stopped
        with self._turn:
            results = self._request.infer([images.numpy()])
            found: NDArray[np.float32] = np.array(next(iter(results.values())), np.float32)
        return found

    def stop(self) -> None:
        """Raise ``Stopped`` at the next batch."""
        self._stopped = True


class OpenVinoFormat(Format):
    """What OpenVINO's files share: they are converted from an ONNX model."""

    runtime = distribution = extra = "openvino"
    modules = ("openvino",)

    @abstractmethod
    def model(self, source: Source) -> ModelProto:
        """Return the ONNX model to convert."""

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write graph and weights."""
        import openvino

        path = self.path(source, folder)
        with tempfile.TemporaryDirectory() as place:
            given = Path(place) / "model.onnx"
            given.write_bytes(self.model(source).SerializeToString())
            try:
                converted = openvino.convert_model(given)
            except Exception as error:  # of several kinds, by what it cannot read
                reason = str(error).strip().splitlines()[-1][:200]
                raise FormatError(f"OpenVINO cannot read '{source.stem}' ({reason}): export it as ONNX.") from error
            _name_in_order(converted)
            for key, value in entries(source.normalization).items():
                converted.set_rt_info(value, key)
            openvino.save_model(converted, path, compress_to_fp16=True)
        return path, path.with_suffix(".bin")

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Compile it for the CPU."""
        return OpenVinoRunner(path, threads)


def in_bf16() -> Iterator[str]:
    """Say where OpenVINO rounds more than the file does: it prefers bf16 on processors with instructions for it."""
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        yield (
            "OpenVINO computes floats in bf16 on this processor: faster, and a few answers in a thousand may differ. "
            "Compile with INFERENCE_PRECISION_HINT set to f32 where they must not."
        )


def _name_in_order(model: Any) -> None:
    """Number the nodes that OpenVINO named itself by their place: it counts all it ever made in a process."""
    for place, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Z]\w*_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{place}")


class OpenVinoHalf(OpenVinoFormat):
    """Weights in 16-bit floats, widened when compiled for a CPU without them."""

    name, title, suffix = "openvino", "OpenVINO fp16", ".openvino.xml"
    summary = "IR with fp16 weights; computes in what the device has"

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is rounded to 16 bits, and what is widened."""
        return chain(in_bf16(), floats_in(source.compressed, "OpenVINO's IR", "fp16"))

    def model(self, source: Source) -> ModelProto:
        """Return the graph in fp32; saving rounds its weights."""
        return OnnxFloat().model(source)


class OpenVinoInt8(OpenVinoFormat):
    """Weights and activations in int8, from the QDQ graph."""

    name, title, suffix = "openvino-int8", "OpenVINO int8", ".openvino-int8.xml"
    summary = "IR with 8-bit weights and activations; runs on integer kernels"

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Add 8-bit weights and activations where the recipe has no quantized activations."""
        return with_int8(recipe)

    def remarks(self, source: Source) -> Iterator[str]:
        """Say which codes could not be kept, and what is stored dense."""
        yield from int8_remarks(source)
        yield from zeros_stay(source.compressed, "OpenVINO's IR")

    def model(self, source: Source) -> ModelProto:
        """Return the QDQ graph, which OpenVINO turns into integer kernels."""
        return int8_model(source)


class OpenVinoInt4(OpenVinoFormat):
    """Weights in 4 bits, unpacked by the kernels or when compiled, as the device has it."""

    name, title, suffix = "openvino-int4", "OpenVINO int4 weights", ".openvino-int4.xml"
    summary = "IR with 4-bit weights; unpacked when compiled for a CPU: smaller, as fast as fp16"

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Quantize the weights to 4 bits where the recipe does not."""
        return OnnxInt4().complete(recipe, calibrated)

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what stays larger."""
        return chain(in_bf16(), OnnxInt4().unheld(source.compressed))

    def model(self, source: Source) -> ModelProto:
        """Return the graph with 4-bit integers."""
        return weights_model(source)
