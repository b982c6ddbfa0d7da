"""LiteRT (TFLite) files for phones and small boards, run by its interpreter with XNNPACK."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.recipe import Recipe
from workbench.run.onnx_graph import ExportError
from workbench.run.runner import Runner

from .calling import CallRunner
from .format import Format, FormatError, Source
from .limits import floats_in, zeros_stay
from .onnx_int8 import with_int8
from .torch_program import export_program, refusal

_IMAGES = 256
#: Operators, by ONNX's names, of layer normalization, attention and recurrent cells.
_INEXACT = frozenset({"LayerNormalization", "Softmax", "LSTM", "GRU", "RNN"})


class LiteRt(Format):
    """fp32, one image a run."""

    name, title, suffix = "litert", "LiteRT fp32", ".tflite"
    summary = "TFLite file in fp32, one image a run"
    runtime, distribution, extra = "litert", "ai-edge-litert", "litert"
    modules: ClassVar[tuple[str, ...]] = ("litert_torch", "ai_edge_litert")

    def remarks(self, source: Source) -> Iterable[str]:
        """Say what is widened."""
        return floats_in(source.compressed, "LiteRT")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Convert the module."""
        path = self.path(source, folder)
        _convert(source, source.module, path)
        return (path,)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load it into the interpreter."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(str(path), num_threads=threads or torch.get_num_threads())
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise FormatError(f"LiteRT cannot open {path.name}: {str(error).splitlines()[0][:200]}") from error
        taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

        def call(image: Tensor) -> Any:
            interpreter.set_tensor(taken["index"], _on_grid(image.numpy(), taken))
            interpreter.invoke()
            return _off_grid(interpreter.get_tensor(given["index"]), given)

        return CallRunner(self.runtime, call, one_by_one=True)


class LiteRtInt8(LiteRt):
    """int8, by LiteRT's own quantizer: everything, or, where that would cost answers, what has weights.

    In its 8-bit kernels layer normalization, attention and recurrent cells keep a fraction of their precision: of
    the ViT's answers one in forty turns out otherwise, and it takes about five times as long as with these in fp32,
    which XNNPACK computes. The linear layers of such a model round what enters them by the range of each image, as
    nothing has to be rounded on leaving them.
    """

    name, title, suffix = "litert-int8", "LiteRT int8", ".int8.tflite"
    summary = "TFLite file with 8-bit weights and activations in integer kernels (attention in fp32), one image a run"
    modules = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")

    def complete(self, recipe: Recipe, calibrated: bool = True) -> tuple[Recipe, tuple[str, ...]]:
        """Add 8-bit weights and activations where the recipe has no quantized activations."""
        return with_int8(recipe)

    def remarks(self, source: Source) -> Iterator[str]:
        """Say whose grids are in the file."""
        yield f"LiteRT's quantizer chose the grids anew, from {_IMAGES} calibration images."
        if _keeps_floats(source):
            yield (
                "Convolutions and linear layers compute in int8, linear ones by the range of each image; attention, "
                "normalization and recurrent cells between them stay in fp32, where LiteRT is more exact and faster."
            )
        else:
            yield "Images enter it, and logits leave it, in int8."
        yield from zeros_stay(source.compressed, "LiteRT")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Convert the module in fp32, then quantize the file."""
        from ai_edge_quantizer import quantizer

        if source.calibration is None:
            raise FormatError("An int8 file needs calibration images, and these data have none: give a train split.")
        path = self.path(source, folder)
        with tempfile.TemporaryDirectory() as place, _silence():
            plain = Path(place) / "plain.tflite"
            _convert(source, source.compressed.fresh_module(inputs=False), plain)
            work = quantizer.Quantizer(str(plain), _weighted_layers() if _keeps_floats(source) else _everything())
            feeds = [{"args_0": image[None].numpy()} for image in source.calibration[:_IMAGES]]
            found = work.calibrate({"serving_default": feeds}, num_threads=1) if work.need_calibration else None
            path.write_bytes(work.quantize(found).quantized_model)
        return (path,)


def _keeps_floats(source: Source) -> bool:
    """Return whether the model has operators that LiteRT computes badly in int8."""
    try:
        return not _INEXACT.isdisjoint(source.graph.operators)
    except ExportError:
        return True


def _everything() -> list[dict[str, Any]]:
    """Return the quantizer's instructions for integers from the image to the logits."""
    from ai_edge_quantizer import recipe

    instructions: list[dict[str, Any]] = recipe.static_wi8_ai8()
    return instructions


def _weighted_layers() -> list[dict[str, Any]]:
    """Return its instructions for integers in what has weights, and floats between."""
    from ai_edge_quantizer.qtyping import TFLOperationName as Operation
    from ai_edge_quantizer.recipe_manager import RecipeManager

    manager, every = RecipeManager(), ".*"
    for operation in (Operation.CONV_2D, Operation.DEPTHWISE_CONV_2D):
        manager.add_static_config(every, operation, activation_num_bits=8, weight_num_bits=8)
    manager.add_dynamic_config(every, Operation.FULLY_CONNECTED, num_bits=8)
    instructions: list[dict[str, Any]] = manager.get_quantization_recipe()
    return instructions


def _on_grid(values: NDArray[np.float32], about: dict[str, Any]) -> NDArray[Any]:
    """Return values as the file takes them: floats as they are, or the integers of its grid."""
    kind = np.dtype(about["dtype"])
    if kind.kind == "f":
        return values
    scale, zero_point = about["quantization"]
    limits = np.iinfo(kind)
    codes: NDArray[Any] = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(kind)
    return codes


def _off_grid(codes: NDArray[Any], about: dict[str, Any]) -> NDArray[np.float32]:
    if np.dtype(about["dtype"]).kind == "f":
        return codes
    scale, zero_point = about["quantization"]
    values: NDArray[np.float32] = ((codes.astype(np.float32) - zero_point) * scale).astype(np.float32)
    return values


def _convert(source: Source, module: nn.Module, path: Path) -> None:
    import litert_torch

    with _silence():
        try:
            litert_torch.convert(module, (torch.zeros(1, *source.subject.image_shape),)).export(str(path))
        except Exception as error:  # its passes raise whatever they meet
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise refusal("LiteRT", "convert", source, reason, export_program(source, 1, module)) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the converter's progress out of our output."""
    logging.disable(logging.WARNING)
    try:
        heard = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
