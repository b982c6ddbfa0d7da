"""What can be taken out of a model whole: blocks, branches, levels of recurrent layers; and what can't, and why."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.gallery import CLASSIFIERS, SHAPE, UNUSUAL, build
from workbench.models.depth import Depth, trace_depth
from workbench.models.edits import apply_edits, edit_from_json, edit_to_json
from workbench.models.soundness import tensors_in


def traced(name: str) -> tuple[nn.Module, Depth]:
    model = wb.load_model(name if name in ("resnet20", "vit", "lstm") else build(name))
    return model.module, trace_depth(model.module, model.input_shape or SHAPE)


def without(module: nn.Module, depth: Depth, *names: str) -> nn.Module:
    changed = copy.deepcopy(module)
    apply_edits(changed, depth.edits(block for block in depth.blocks if block.name in names))
    return changed


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", [*CLASSIFIERS, *UNUSUAL])
def test_every_awkward_model_runs_without_each_of_its_blocks(name: str):
    module, depth = traced(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    shapes = [output.shape for output in tensors_in(module(images))]
    for block in depth.blocks:
        changed = without(module, depth, block.name)
        assert [output.shape for output in tensors_in(changed(images))] == shapes
        gone = set(module.state_dict()) - set(changed.state_dict())
        assert gone
        assert set(block.weights) <= gone
        assert all(edit_from_json(edit_to_json(edit)) == edit for edit in depth.edits([block]))
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_residual_network_loses_any_block():
    module, depth = traced("resnet20")
    assert [block.name for block in depth.blocks] == [
        f"stage{stage}.{place}" for stage in (1, 2, 3) for place in range(3)
    ]
    images = torch.randn(2, 1, 28, 28)
    # where shapes agree the input takes the block's place, else only the shortcut is left
    same, changed = nn.Identity(), copy.deepcopy(module)
    changed.stage2[1] = same  # type: ignore[operator, index]
    torch.testing.assert_close(without(module, depth, "stage2.1")(images), changed(images))
    block = module.stage2[0]  # type: ignore[index]
    shortcut = nn.Sequential(block.shortcut, nn.ReLU())
    changed = copy.deepcopy(module)
    changed.stage2[0] = shortcut  # type: ignore[operator, index]
    torch.testing.assert_close(without(module, depth, "stage2.0")(images), changed(images))


def test_a_branch_of_attention_leaves_its_shortcut():
    module, depth = traced("attention")
    rows = torch.randn(2, *SHAPE)
    changed = copy.deepcopy(module)
    nn.init.zeros_(changed.fused.out_proj.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(changed.fused.out_proj.bias)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(without(module, depth, "fused")(rows), changed(rows))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both_ways", [False, True])
def test_levels_of_a_recurrent_layer_go_alone_and_the_others_move_up(kind: type[nn.RNNBase], both_ways: bool):
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = kind(24, 6, num_layers=3, batch_first=True, bidirectional=both_ways)  # type: ignore[call-arg]
            self.fc = nn.Linear(6 * (1 + both_ways), 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.rows(x.transpose(1, 2).flatten(2))[0][:, -1])

    torch.manual_seed(0)
    module = Stacked().eval()
    depth = trace_depth(module, SHAPE)
    assert [block.name for block in depth.blocks] == ["rows[1]", "rows[2]"]
    changed = without(module, depth, "rows[1]")
    expected = kind(24, 6, num_layers=2, batch_first=True, bidirectional=both_ways)  # type: ignore[call-arg]
    own = {name.replace("_l2", "_l1"): value for name, value in module.rows.named_parameters() if "_l1" not in name}
    expected.load_state_dict(own)
    rows = torch.randn(2, 8, 24)
    torch.testing.assert_close(changed.rows(rows)[0], expected(rows)[0])  # type: ignore[operator]
    assert copy.deepcopy(changed)(torch.randn(2, *SHAPE)).shape == (2, 5)


def test_a_branch_that_is_a_module_of_its_own_leaves_zeros_not_its_input():
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 1))

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.branch(x)).mean((2, 3))

    module = Added().eval()
    depth = trace_depth(module, SHAPE)
    images = torch.randn(2, *SHAPE)
    torch.testing.assert_close(without(module, depth, "branch")(images), images.mean((2, 3)))


def test_shared_parts_stay_and_the_reason_is_told():
    assert traced("shared")[1].refused == {"body": "it is called 2 times"}
    reasons = traced("tied")[1].refused
    assert reasons["first"] == "it shares the tensor 'first.weight' with 'second.weight'"
    assert traced("control_flow")[1].refused == {"experts.0": "it is called 3 times"}


def test_a_part_that_others_look_into_stays():
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return (self.conv(x) * self.conv.weight.mean()).mean((2, 3))

    depth = trace_depth(Looks().eval(), SHAPE)
    assert depth.blocks == ()
    assert "does not run without it" in depth.refused["conv"]
