"""The imported module against ONNX Runtime, and against itself at another batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, fx

from ..model import ModelError
from .read import input_of

#: Largest accepted difference: a share of how much the outputs vary from image to image (a wrong
#: network is off by about all of it), and float32's rounding of large outputs.
OF_VARIATION = 1e-3
OF_LARGEST = 1e-6


def verify(module: fx.GraphModule, model: ModelProto, path: Path, shape: tuple[int, ...]) -> float:
    """Return the largest difference between ``module`` and ONNX Runtime on random images.

    Raises ``ModelError`` where they disagree, or where the module does not treat images of a larger
    batch one by one.
    """
    dims = input_of(model, path).type.tensor_type.shape.dim
    batch = (dims[0].dim_value if dims else 0) or 2
    images = torch.randn(3 * batch, *shape, generator=torch.Generator().manual_seed(0))
    expected = _run_onnx(path, images.split(batch))
    tolerance = _tolerance(expected)
    with torch.no_grad():
        difference = _difference(_run(module, images.split(batch), path), expected)
        if difference > tolerance:
            raise ModelError(
                f"{path} was read, but the result differs from ONNX Runtime's by {difference:.2g} on random "
                "images, so it is not used: export the model anew in a recent opset."
            )
        for other in (images.split(1), [images]):
            if _difference(_run(module, other, path), expected) > tolerance:
                raise ModelError(_fixed(path))
    return difference


def _run(module: fx.GraphModule, batches: Sequence[Tensor], path: Path) -> Tensor:
    try:
        return torch.cat([module(batch) for batch in batches])
    except Exception as error:  # whatever a shape that only fits one batch size raises
        raise ModelError(_fixed(path)) from error


def _fixed(path: Path) -> str:
    return f"{path} works for its own batch size only: export it with a dynamic batch dimension."


def _tolerance(expected: Tensor) -> float:
    finite = expected.nan_to_num(posinf=0.0, neginf=0.0)
    variation = (finite - finite.mean(0)).abs().max()
    return float(OF_VARIATION * variation + OF_LARGEST * finite.abs().max())


def _run_onnx(path: Path, batches: Sequence[Tensor]) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        results = [np.asarray(session.run(None, {name: batch.numpy()})[0]) for batch in batches]
    except Exception as error:  # its exceptions share no base but this
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
        raise ModelError(f"{path} cannot be run by ONNX Runtime: {reason}.") from error
    return torch.from_numpy(np.concatenate(results))


def _difference(left: Tensor, right: Tensor) -> float:
    """Return the largest difference; infinite for other shapes or NaN on one side only."""
    if left.shape != right.shape or not torch.equal(left.isnan(), right.isnan()):
        return float("inf")
    return float((left - right).abs().nan_to_num(posinf=0.0).max()) if left.numel() else 0.0
