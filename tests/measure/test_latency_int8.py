"""The int8 export: real 8-bit kernels, a small file, and nearly the same answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.bench.slicing import export_zoo
from workbench.run.qdq import QuantizationError, export_int8

IMAGE = (1, 28, 28)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((64, *IMAGE), dtype=np.float32)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": images})[0])


def test_the_file_is_small_because_weights_are_raw_bytes(images: np.ndarray) -> None:
    model = export_zoo("lenet5")
    exported = export_int8(model, images[:8])
    assert all(tensor.HasField("raw_data") for tensor in exported.graph.initializer if tensor.dims)
    assert len(exported.SerializeToString()) < 0.27 * len(model.SerializeToString())


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "mobilenetv2"])
def test_outputs_stay_near_those_of_fp32(name: str, images: np.ndarray) -> None:
    model = export_zoo(name)
    exact, coarse = run(model, images), run(export_int8(model, images), images)
    spread = exact.std()
    assert np.sqrt(np.mean((exact - coarse) ** 2)) < 0.1 * spread


def test_the_batch_stays_free(images: np.ndarray) -> None:
    exported = export_int8(export_zoo("lenet300"), images)
    assert [len(run(exported, images[:count])) for count in (1, 7)] == [1, 7]


def test_the_given_model_is_left_alone(images: np.ndarray) -> None:
    model = export_zoo("lenet300")
    before = model.SerializeToString(deterministic=True)
    export_int8(model, images)
    assert model.SerializeToString(deterministic=True) == before


def test_images_that_cannot_calibrate_are_refused_with_a_sentence(images: np.ndarray) -> None:
    model = export_zoo("lenet300")
    with pytest.raises(QuantizationError, match="NaN or infinite"):
        export_int8(model, np.full((4, *IMAGE), np.nan, np.float32))
    with pytest.raises(QuantizationError, match="needs calibration images"):
        export_int8(model, images[:0])
