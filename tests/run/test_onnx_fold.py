"""BatchNorm is folded with the factor told, and only where that changes nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from workbench.run.onnx_export import export_graph
from workbench.run.onnx_fold import fold_norms
from workbench.run.runner import OnnxRunner


class Branching(nn.Module):
    """A convolution whose BatchNorm can be folded, and one that is also read elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 1)
        self.norm, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.norm(self.first(x))))
        return torch.as_tensor((x + self.other(x)).mean((2, 3)))


def test_folding_keeps_the_answers_and_tells_each_channels_factor() -> None:
    torch.manual_seed(0)
    module = Branching().eval()
    for norm in (module.norm, module.other):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    images = torch.randn(3, 3, 8, 8)
    model = export_graph(module, (3, 8, 8)).build(module.state_dict())
    factors = fold_norms(model)
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 1
    assert set(factors) == {"first.weight"}
    assert module.norm.running_var is not None
    expected = module.norm.weight / (module.norm.running_var + module.norm.eps).sqrt()
    torch.testing.assert_close(torch.from_numpy(factors["first.weight"]), expected.detach())
    assert not any(tensor.name.startswith("norm.") for tensor in model.graph.initializer)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(OnnxRunner(model).logits(images)), module(images))
