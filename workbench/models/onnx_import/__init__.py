"""ONNX files become ``torch.fx`` graphs of real modules.

Our own importer reads the operators that image classifiers are made of (``operators``: layers,
``elementwise``, ``shapes``), so that convolutions and matrix products become ``Conv2d`` and ``Linear``
modules named after their weights. Shapes are followed with a batch size that no real dimension has
(``builder.BATCH``), which is how a batch of any size comes out of a file exported with a fixed one.
Whatever converted the file, the result is compared with ONNX Runtime before it is handed on.
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto
from torch import fx

from ..model import ModelError
from .builder import build
from .op import UnknownOperator
from .read import image_shape_of, input_of, read_onnx
from .verify import verify

__all__ = ["load_onnx"]


def load_onnx(
    path: Path, input_shape: tuple[int, ...] | None = None
) -> tuple[fx.GraphModule, tuple[int, ...], tuple[str, ...]]:
    """Return the module in ``path``, one image's ``(C, H, W)``, and notes on the conversion.

    ``input_shape`` is needed where the file leaves the image size open. Raises ``ModelError`` for a
    file that is damaged or incomplete, has operators nobody here knows, or would compute something
    else than ONNX Runtime does.
    """
    model = read_onnx(path)
    shape = image_shape_of(model, path, input_shape)
    module, notes = _convert(model, path, shape)
    difference = verify(module, model, path, shape)
    said = f"Imported from ONNX; differs from ONNX Runtime by at most {difference:.1e} on random images."
    return module, shape, (*notes, said)


def _convert(model: ModelProto, path: Path, shape: tuple[int, ...]) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """Choose the converter: ours, and onnx2torch for what ours does not know, where that imports.

    Ours comes first because it names layers after their weights and turns matrix products into
    ``Linear``; a recipe written on one machine then finds the same layers on every other.
    """
    try:
        return build(model, path, shape, input_of(model, path)), ()
    except UnknownOperator as unknown:
        try:
            from onnx2torch import convert
        except Exception:  # it imports torchvision, which fails in its own ways beside another torch
            raise unknown from None
        try:
            return convert(model).eval(), ("Converted by onnx2torch.",)
        except Exception as error:
            raise ModelError(f"{unknown} (onnx2torch could not convert it either: {error})") from error
