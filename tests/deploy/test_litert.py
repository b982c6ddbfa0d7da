"""What LiteRT's int8 files round, and what they leave in floats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.data.dataset import Dataset
from workbench.deploy.export import Export, export
from workbench.deploy.formats import FORMATS
from workbench.models.load import load_model
from workbench.recipe import Recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FORMATS["litert-int8"].installed, reason=FORMATS["litert-int8"].install),
]


class Attending(nn.Module):
    """Looks at an image's rows as one of a transformer's layers does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(28, 2, 56, dropout=0.0, activation="gelu", batch_first=True)
        self.head = nn.Linear(28, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(x.flatten(1, 2)).mean(1))
        return logits


def written(module: nn.Module, data: Dataset, folder: Path) -> tuple[Export, set[str], str]:
    """Return the export, the types of its operators' values and that of its input."""
    from ai_edge_litert.interpreter import Interpreter

    found = export(load_model(module), data, Recipe(), "litert-int8", folder)
    interpreter = Interpreter(str(found.files[0][0]))
    interpreter.allocate_tensors()
    types = {entry["dtype"].__name__ for entry in interpreter.get_tensor_details()}
    return found, types, interpreter.get_input_details()[0]["dtype"].__name__


def test_a_convolutional_network_is_integers_from_image_to_logits(little_data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)).eval()
    found, types, taken = written(module, little_data, tmp_path)
    assert taken == "int8"
    assert "float32" not in types
    assert any("logits leave it, in int8" in remark for remark in found.remarks)


def test_what_is_between_a_transformers_linear_layers_stays_in_floats(little_data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    found, types, taken = written(Attending().eval(), little_data, tmp_path)
    assert taken == "float32"
    assert {"float32", "int8"} <= types
    assert any("stay in fp32" in remark for remark in found.remarks)
    assert found.agreement is not None
    assert found.agreement.value >= 0.97
