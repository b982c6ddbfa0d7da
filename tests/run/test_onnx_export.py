"""What a traced graph leaves out of a module: the ways that its code takes for other values, and hidden buffers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.run.onnx_export import export_graph
from workbench.run.onnx_graph import ExportError
from workbench.run.runner import OnnxRunner

SHAPE = (3, 8, 8)


class Limited(nn.Module):
    """Activations above a bound are scaled down together; ``asks`` for nothing but that images are finite."""

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, 5)
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        if self.asks and not torch.isfinite(x).all():
            raise ValueError("an image is not finite")
        x = self.conv(x).relu()
        if not self.asks and x.max() > 1:
            x = x / x.max()
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Shifted(nn.Module):
    """Positions that belong to the code, not to the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("positions", torch.linspace(-1, 1, 8), persistent=False)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc((self.conv(x) + self.positions).relu().mean((2, 3)))
        return logits


def test_code_that_takes_another_way_for_other_values_has_no_graph() -> None:
    with pytest.raises(ExportError, match="another way for other values"):
        export_graph(Limited(asks=False).eval(), SHAPE)


@pytest.mark.parametrize("module", [Limited(asks=True), Shifted()], ids=["asking", "hidden buffer"])
def test_the_graph_answers_as_the_module_does(module: nn.Module) -> None:
    module.eval()
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    graph = export_graph(module, SHAPE)
    with torch.inference_mode():
        expected = module(images).numpy()
    found = OnnxRunner(graph.build(module.state_dict())).logits(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
