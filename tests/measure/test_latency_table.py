from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.bench.slicing import export_zoo, slice_channels
from workbench.measure.estimate import Latency
from workbench.measure.latency import (
    Kernel,
    KernelTable,
    explain,
    fused_kernels,
    kernel_times,
    measure_interleaved,
    measure_latency,
    open_table,
    predict_latency,
    this_machine,
)
from workbench.measure.latency.cache import WeightCache, measure_cache, weight_bytes
from workbench.measure.latency.measured import LatencyError, median_interval
from workbench.measure.latency.profiler import Calibration, profile
from workbench.measure.latency.signature import place

IMAGE = (1, 28, 28)
#: No share of the profiler's, and runs that cost nothing.
NOTHING = Calibration(0, 0, 0, 1, 0, 0, 1)


@pytest.fixture(scope="module")
def lenet() -> onnx.ModelProto:
    return export_zoo("lenet300")


def test_a_profile_that_found_no_room_is_a_sentence(lenet: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: read(path)[:-5000])
    with pytest.raises(LatencyError, match="make room there"):
        profile(lenet, {"input": np.zeros((1, *IMAGE), np.float32)}, runs=2)


@pytest.fixture(scope="module")
def measured_table(lenet: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> KernelTable:
    table = open_table(tmp_path_factory.mktemp("devices"))
    table.grow(fused_kernels(lenet, IMAGE, block=table.block), seconds=20)
    return table


def made_up_table(times: dict[Kernel, float]) -> KernelTable:
    table = KernelTable(this_machine())
    table.calibration, table.cache = NOTHING, WeightCache()
    for kernel, ns in times.items():
        signature, point = place(kernel, table.block)
        table._learn({signature: {point: (ns, 0)}})
    return table


def convolution(inputs: int, outputs: int, layout: str = "blocked", dtype: str = "fp32") -> Kernel:
    macs = inputs * outputs * 9 * 14 * 14
    return Kernel(
        "k", "Conv", dtype, layout, inputs, outputs, (14, 14), (14, 14), (3, 3), (1, 1), macs=macs,  # type: ignore[arg-type]
    )  # fmt: skip


def latency(ms: float) -> Latency:
    return Latency("d", "r", 1, ms, ms, ms, "measured")


def test_a_measured_kernel_is_predicted_exactly() -> None:
    kernel = convolution(32, 32)
    table = made_up_table({kernel: 5000, convolution(16, 16): 2000, convolution(64, 64): 30000})
    assert kernel_times([kernel], table)[0].ns == pytest.approx(5000, rel=1e-3)


def test_weights_that_leave_the_cache_are_charged_by_the_byte_and_once() -> None:
    kernel = replace(convolution(64, 64), weight="conv")
    table = made_up_table({kernel: 5000})
    size = 64 * 64 * 9 * 4
    assert weight_bytes(kernel) == size
    table.cache = WeightCache((size, 2 * size), (0.0, 0.05))
    once, again = kernel_times([kernel, replace(kernel, name="again")], table)
    assert [once.ns, again.ns] == pytest.approx([5000, 5000], rel=1e-3), "all of it fits"
    apart = kernel_times([kernel, replace(kernel, weight="another")], table)
    assert [time.ns for time in apart] == pytest.approx([5000 + 0.05 * size] * 2, rel=1e-3)
    wide = replace(kernel, bytes=2 * size)
    assert kernel_times([wide], table)[0].ns == pytest.approx(5000 + 0.05 * size, rel=1e-3), "activations take room too"
    assert table.ns_per_byte(10 * size) == table.ns_per_byte(2 * size)


def test_what_an_anchor_takes_longer_is_laid_to_a_crowded_cache_first() -> None:
    kernel = replace(convolution(64, 64), weight="conv")
    size = 64 * 64 * 9 * 4
    table = made_up_table({kernel: 5000})
    table.cache = WeightCache((size, 2 * size), (0.0, 0.05))
    small = replace(kernel, outputs=32)
    alone = predict_latency([small], table).ms
    crowded = predict_latency([small], table, anchor=([kernel], latency((5000 + 0.025 * size) / 1e6)))
    assert crowded.ms == pytest.approx(alone, rel=0.03), "half of the weights fit, however crowded"
    slower = predict_latency([small], table, anchor=([kernel], latency(2 * (5000 + 0.05 * size) / 1e6)))
    assert slower.ms == pytest.approx(2 * alone), "what the cache does not explain scales everything"


def test_an_anchor_that_no_cache_explains_leaves_the_room_as_it_was() -> None:
    kernel = replace(convolution(64, 64), weight="conv")
    size = 64 * 64 * 9 * 4
    table = made_up_table({kernel: 5000})
    table.cache = WeightCache((4 * size, 6 * size), (0.0, 0.05))  # the network itself fits, however crowded
    large = [replace(kernel, weight=str(index)) for index in range(5)]
    alone = predict_latency(large, table).ms
    assert predict_latency(large, table, anchor=([kernel], latency(2 * 5000 / 1e6))).ms == pytest.approx(2 * alone)


def test_more_bytes_never_cost_less_in_the_cache() -> None:
    disturbed = WeightCache((1, 2, 3, 4), (0.0, 0.05, 0.02, 0.03))
    assert [disturbed.cost(size) for size in (1, 2, 3, 4)] == [0.0, 0.02, 0.02, 0.03]


def test_the_cache_is_measured_on_chains_that_outgrow_it() -> None:
    found = measure_cache(stop=lambda: True)
    assert found.sizes[0] == 512 << 10
    assert list(found.sizes) == sorted(found.sizes)
    assert found.ns_per_byte[0] == 0
    assert all(0 <= cost < 10 for cost in found.ns_per_byte)
    assert WeightCache.from_json(found.to_json()).least(found).sizes == found.sizes
    with pytest.raises(ValueError, match="no sizes"):
        WeightCache.from_json([])


def test_kernels_that_only_a_recipe_has_are_measured_when_it_was_met(tmp_path: Path) -> None:
    table = open_table(tmp_path)
    grouped = replace(convolution(8, 8, "plain"), groups=4)
    line = replace(grouped, image=(32,), output_image=(32,), window=(3,), stride=(1,), groups=1)
    reduced = Kernel("r", "ReduceMean", "fp32", "", 8, 8, (8, 8), ())
    odd = [
        grouped,
        line,
        reduced,
        replace(reduced, batch=4),
        Kernel("t", "Tanh", "fp32", "plain", 8, 8, (8, 8), (8, 8)),
    ]
    assert len(table.wanted([], odd)) == len(odd)
    table.grow([], odd, seconds=20)
    assert all(entry.known for entry in kernel_times(odd, table))
    assert table.wanted([], odd) == []
    unbuildable = replace(grouped, inputs=9)  # channels that the groups do not divide
    assert table.wanted([], [unbuildable]) == []


def test_a_bilinear_cost_is_interpolated_exactly() -> None:
    def cost(inputs: int, outputs: int) -> float:
        return 1000 + 10 * inputs + 20 * outputs + 7 * inputs * outputs

    grid = [(inputs, outputs) for inputs in (16, 64, 128) for outputs in (16, 64, 128)]
    table = made_up_table({convolution(*pair): cost(*pair) for pair in grid})
    for pair in ((32, 96), (112, 48), (16, 80)):
        assert kernel_times([convolution(*pair)], table)[0].ns == pytest.approx(cost(*pair), rel=1e-6)


def test_channels_are_charged_for_their_padding() -> None:
    table = made_up_table({convolution(32, 32): 5000, convolution(32, 48): 7000})
    padded, full = (kernel_times([convolution(32, outputs)], table)[0].ns for outputs in (36, 48))
    assert padded == full


def test_a_kernel_never_measured_is_called_unknown_and_widens_the_interval() -> None:
    known, unknown = convolution(32, 32), convolution(33, 32, "plain")
    table = made_up_table({known: 5000})
    assert [entry.known for entry in kernel_times([known, unknown], table)] == [True, False]
    narrow, wide = predict_latency([known], table), predict_latency([unknown], table)
    assert wide.high / wide.ms > narrow.high / narrow.ms
    assert "not measured" in wide.reason


def test_the_anchor_is_predicted_as_measured() -> None:
    kernel = convolution(32, 32)
    table = made_up_table({kernel: 1e6})
    assert predict_latency([kernel], table, anchor=([kernel], latency(1.2))).ms == pytest.approx(1.2)


def test_the_table_survives_on_disk(measured_table: KernelTable, lenet: onnx.ModelProto) -> None:
    assert measured_table.path is not None
    again = open_table(measured_table.path.parent)
    kernels = fused_kernels(lenet, IMAGE, block=again.block)
    assert again.wanted(kernels) == []
    assert predict_latency(kernels, again).ms == pytest.approx(predict_latency(kernels, measured_table).ms, rel=0.01)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}', b"\xff\xfe\x00", b'{"format": 1}'])
def test_a_damaged_table_counts_as_empty_and_is_replaced(content: bytes, tmp_path: Path) -> None:
    path = open_table(tmp_path).path
    assert path is not None
    path.write_bytes(content)
    table = open_table(tmp_path)
    assert table.signatures() == ()
    table.calibration, table.cache = NOTHING, WeightCache()
    table._learn({"Gemm fp32 batch 1": {(4, 4): (100.0, 2)}})
    table.save()
    assert open_table(tmp_path).signatures() == ("Gemm fp32 batch 1",)


def test_writers_do_not_lose_each_others_kernels(tmp_path: Path) -> None:
    tables = [open_table(tmp_path) for _ in range(8)]
    for index, table in enumerate(tables):
        table.calibration, table.cache = NOTHING, WeightCache()
        table._learn({f"kernel {index}": {(1, 1): (100.0, 1)}})
    threads = [threading.Thread(target=table.save) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(open_table(tmp_path).signatures()) == 8
    assert list(tmp_path.glob("*.part")) == []


def test_an_unwritable_folder_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    table = KernelTable(this_machine(), blocked / "kernels.json")
    table.calibration, table.cache = NOTHING, WeightCache()
    table.save()


def test_growing_stops_when_cancelled_or_out_of_time(lenet: onnx.ModelProto, tmp_path: Path) -> None:
    table = open_table(tmp_path)
    kernels = fused_kernels(lenet, IMAGE, block=table.block)
    assert table.grow(kernels, cancelled=lambda: True) == 0
    assert table.grow(kernels, seconds=0) == 0


def test_growing_leaves_nothing_wanted_and_saves_plain_json(measured_table: KernelTable) -> None:
    assert measured_table.path is not None
    stored = json.loads(measured_table.path.read_text())
    assert stored["runtime"].startswith("onnxruntime")
    assert all(len(row) == 4 for rows in stored["kernels"].values() for row in rows)


def test_prediction_is_near_measurement_on_unseen_widths(measured_table: KernelTable, lenet: onnx.ModelProto) -> None:
    """A loose bound: a busy test machine must not fail it; the bench holds the tight one."""
    models = [lenet, slice_channels(lenet, lambda old: old * 2 // 5)]
    for model, result in zip(models, measure_interleaved(models, IMAGE, rounds=5), strict=True):
        kernels = fused_kernels(model, IMAGE, block=measured_table.block)
        assert 0.25 < predict_latency(kernels, measured_table).ms / result.latency.ms < 4


def test_the_interval_holds_the_median(lenet: onnx.ModelProto) -> None:
    figure = measure_latency(lenet, IMAGE, seconds=0.1)
    assert 0 < figure.low <= figure.ms <= figure.high
    assert (figure.kind, figure.batch) == ("measured", 1)
    assert figure.device.startswith("this machine (")


def test_measuring_stops_when_cancelled(lenet: onnx.ModelProto) -> None:
    assert measure_latency(lenet, IMAGE, seconds=60, cancelled=lambda: True).ms > 0


def test_the_order_statistics_interval_covers_the_median() -> None:
    """95 % promised; of 1,000 skewed samples fewer than 90 % has a chance below 10⁻⁹."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        low, _, high = median_interval(generator.exponential(size=60))
        covered += low <= np.log(2) <= high
    assert covered >= 900


def test_images_of_a_wrong_shape_are_refused_with_a_sentence(lenet: onnx.ModelProto) -> None:
    with pytest.raises(LatencyError, match="images of shape"):
        measure_latency(lenet, (1, 9, 9))


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(LatencyError, match="could not load"):
        measure_latency(b"no model", IMAGE)


def test_masked_weights_give_no_speed_and_it_says_why() -> None:
    kernels = [convolution(32, 32)]
    text = explain(kernels, kernels, latency(1), latency(1), sparsity=0.6)
    assert text == ("No speed-up expected, because kernels are dense and multiply the zeros too.")


def test_two_of_four_gives_no_speed_and_it_says_why() -> None:
    kernels = [convolution(32, 32)]
    text = explain(kernels, kernels, latency(1), latency(1), sparsity=0.5, two_of_four=3)
    assert "2:4 sparsity gains nothing on this machine, which has no sparse instructions." in text


def test_few_bits_give_no_speed_and_it_says_why() -> None:
    kernels = [convolution(32, 32)]
    assert "unpacked to fp32" in explain(kernels, kernels, latency(1), latency(1), bits=4)
    assert "unless activations are 8 bits" in explain(kernels, kernels, latency(1), latency(1), bits=8)


def test_nothing_changed_needs_no_words() -> None:
    kernels = [convolution(32, 32)]
    assert explain(kernels, kernels, latency(1), latency(1)) == ""


def test_slower_with_fewer_channels_is_explained_by_alignment() -> None:
    before, after = [convolution(64, 64)], [convolution(29, 64, "plain")]
    text = explain(before, after, latency(1), latency(1.3))
    assert "Slower although 55 % of the multiplications are gone." in text.replace("%", " %").replace("  ", " ")
    assert "29 input channels are no multiple of 4" in text


def test_narrow_int8_layers_are_named() -> None:
    before = [convolution(32, 8)]
    after = [replace(before[0], dtype="int8", layout="last")]
    text = explain(before, after, latency(1), latency(1.5), bits=8, activation_bits=8)
    assert "int8 is slower than fp32 here." in text
    assert "fewer than 16 output channels" in text


def test_a_faster_int8_model_is_not_said_to_be_slower() -> None:
    before = [convolution(64, 64)]
    after = [replace(before[0], dtype="int8", layout="last")]
    assert explain(before, after, latency(1), latency(0.5), bits=8, activation_bits=8) == ""
