"""The choice of code and index changes the bytes, and never a value."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.models.zoo import ARCHITECTURES

SHAPE = (1, 28, 28)
STORED = (
    "- prune: {ratio: 0.9}\n- share: {bits: 4}",
    "- prune: {ratio: 0.8}\n- quantize: {bits: 4}",
    "- prune: {ratio: 0.7}",
    "- quantize: {bits: 3}",
    "- share: {bits: 3, scope: group, group: 5}",
    "- prune: {ratio: 0.5}\n- quantize: {format: fp16}",
)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(
    "choice",
    ["", "code: huffman", "code: ans", "code: none", "sparse: bitmask", "code: none, sparse: relative, index_bits: 5"],
)
def test_values_stay_and_the_file_is_the_size_shown(
    module: nn.Module, stored: str, choice: str, tmp_path: Path
) -> None:
    plain = wb.compress(module, stored, image_shape=SHAPE)
    ours = wb.compress(module, f"{stored}\n- pack: {{{choice}}}", image_shape=SHAPE)
    path = ours.save(tmp_path / "small.wbz")
    assert path.stat().st_size == ours.nbytes
    loaded = wb.load_compressed(path, model=ARCHITECTURES["lenet5"]())
    for name, value in loaded.module.state_dict().items():
        assert torch.equal(value, plain.tensors[name])
    if not choice:
        assert ours.nbytes <= plain.nbytes + 100  # the recipe in the header is longer by a step


def test_sizes_follow_the_choice(module: nn.Module) -> None:
    def size(choice: str) -> int:
        steps = f"- prune: {{ratio: 0.9, scope: layer}}\n- quantize: {{bits: 4}}\n- pack: {{{choice}}}"
        return wb.compress(module, steps, image_shape=SHAPE).nbytes

    best, beside = size(""), 580 * (4 + 4)  # biases and scales in float32
    assert size("code: none, sparse: none") == pytest.approx(beside + 430_500 / 2, rel=0.02)
    assert size("code: none, sparse: bitmask") == pytest.approx(beside + 430_500 * (1 + 0.1 * 4) / 8, rel=0.04)
    narrow, fitting, wide = (size(f"code: none, sparse: relative, index_bits: {bits}") for bits in (2, 4, 8))
    assert narrow > fitting < wide
    assert wide == pytest.approx(beside + 430_500 * 0.1 * (8 + 4) / 8, rel=0.04)
    assert best <= min(narrow, fitting, wide)
    huffman, ans = size("code: huffman"), size("code: ans")
    assert best <= ans < fitting
    assert best <= huffman < fitting


def test_a_width_without_an_index_is_refused() -> None:
    with pytest.raises(WorkbenchError, match="index_bits are those of a relative index"):
        wb.Recipe.parse("- pack: {sparse: bitmask, index_bits: 4}")
