"""Runners: what computes logits. ONNX Runtime where the model exports, PyTorch where it doesn't.

A runner is made for one set of tensors and used from one thread. ``stop`` may be called from another
thread and makes a running batch raise ``Stopped`` within milliseconds (ONNX Runtime) or at the batch's
end (PyTorch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .layout import channels_first, channels_last

if TYPE_CHECKING:
    from onnx import ModelProto


class Stopped(Exception):
    """The batch was given up because its result is no longer wanted."""


class Runner(Protocol):
    """Computes logits ``(N, classes)`` float32 of normalised images ``(N, C, H, W)`` float32."""

    runtime: str

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits of one batch."""
        ...

    def stop(self) -> None:
        """Give up the batch that is running, and every later one."""
        ...


class TorchRunner:
    """Runs a module in channels-last order, which eager PyTorch's CPU kernels prefer, where its code takes that."""

    runtime = "torch"

    def __init__(self, module: nn.Module) -> None:
        self._module = channels_last(module)
        self._may_refuse = True
        self._stopped = False

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits of one batch."""
        if self._stopped:
            raise Stopped
        try:
            return self._run(images)
        except RuntimeError:  # code such as x.view(len(x), -1) refuses that order
            if not self._may_refuse:
                raise
        self._may_refuse, self._module = False, channels_first(self._module)
        return self._run(images)

    def _run(self, images: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = self._module(images).float().numpy()
        return result

    def stop(self) -> None:
        """Raise ``Stopped`` at the next batch."""
        self._stopped = True


class OnnxRunner:
    """Runs an ONNX model in ONNX Runtime on this machine's CPU.

    ``takes`` is the shape of its input ``(N, C, H, W)``, None for each side that the file leaves open; ``metadata`` is
    what the file says of itself.
    """

    runtime = "onnxruntime"

    def __init__(self, model: ModelProto | bytes, threads: int | None = None) -> None:
        import onnxruntime as ort

        content = model if isinstance(model, bytes) else model.SerializeToString()
        self._session = ort.InferenceSession(content, session_options(threads), ["CPUExecutionProvider"])
        given = self._session.get_inputs()[0]
        self._input = given.name
        self.takes = tuple(side if isinstance(side, int) else None for side in given.shape)
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._options = ort.RunOptions()

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits of one batch."""
        return self.run(images.numpy())[0]

    def run(self, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return all outputs for one batch of input values."""
        try:
            found: list[NDArray[np.float32]] = self._session.run(None, {self._input: values}, self._options)
        except Exception as error:
            if self._options.terminate:
                raise Stopped from error
            raise
        return found

    def stop(self) -> None:
        """Make the running batch, and every later one, raise ``Stopped``."""
        self._options.terminate = True


def session_options(threads: int | None = None) -> Any:
    """Return ONNX Runtime's options: quiet, sequential, and without spinning idle threads."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
