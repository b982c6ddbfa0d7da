"""Split inference: two real processes, the same answers, and an honest word where one is gone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.deploy.conftest import convolutions
from workbench.cli import main
from workbench.deploy.split.device import SplitDevice, served
from workbench.deploy.split.parts import ALL_ON_DEVICE, ALL_ON_SERVER, find_part, parts_of
from workbench.deploy.split.plan import NETWORKS, Network, grid_of, plan_split
from workbench.deploy.split.server import SplitServer
from workbench.deploy.split.trial import try_split
from workbench.deploy.split.wire import Grid, Kind, SplitError, receive, send
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_grids import InputGrid
from workbench.run.runner import OnnxRunner

IMAGES = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return convolutions(3)


@contextmanager
def listening(server: SplitServer) -> Iterator[SplitServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@given(st.integers(1, 8), st.integers(1, 60), st.floats(-5, 5), st.floats(0, 9), st.integers(0, 2**32 - 1))
def test_a_value_comes_over_the_wire_as_it_was_rounded(
    bits: int, size: int, low: float, span: float, seed: int
) -> None:
    values = (low + span * np.random.default_rng(seed).random((1, size))).astype(np.float32)
    grid = Grid.around(values, bits)
    assert np.array_equal(grid.decode(grid.encode(values)), grid.rounded(values))
    assert np.abs(grid.rounded(values) - values).max() <= 0.51 * grid.step + 1e-5


@pytest.mark.parametrize("body", [b"", b"\0\1", b"\1\7", b"\1" + bytes(20)])
def test_a_damaged_value_is_refused(body: bytes) -> None:
    with pytest.raises(SplitError, match="is no value of this cut"):
        Grid((100,), 8, 0.0, 0.1).decode(body)


def test_both_halves_give_the_whole(model: onnx.ModelProto) -> None:
    whole = OnnxRunner(model).logits(IMAGES)
    parts = parts_of(model)
    assert [parts[0].name, parts[-1].name] == [ALL_ON_SERVER, ALL_ON_DEVICE]
    inner = parts[1:-1]
    assert len(inner) >= 3
    for part in inner:
        assert part.head is not None
        assert part.tail is not None
        assert np.allclose(OnnxRunner(part.tail).run(OnnxRunner(part.head).logits(IMAGES))[0], whole, atol=1e-5)


def test_the_rounding_of_inputs_makes_no_further_cuts() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(2304, 10)).eval()
    graph = export_graph(module, (1, 28, 28))
    grids = {name: InputGrid(8, 0.1, 0) for name in ("0", "2", "4")}
    plain, rounded = (parts_of(graph.build(module.state_dict(), given)) for given in ({}, grids))
    assert [part.name for part in rounded] == [part.name for part in plain]
    assert len(plain) == 4


def test_two_processes_answer_to_the_digit_as_one(model: onnx.ModelProto) -> None:
    part = parts_of(model)[2]
    trial = try_split(part, IMAGES, IMAGES[:6], bits=4)
    assert trial.equal
    assert 0 < trial.bytes < 16 * 28 * 28 / 2 + 2


def test_a_server_killed_between_requests_is_told_and_another_one_goes_on(model: onnx.ModelProto) -> None:
    part = parts_of(model)[2]
    grid = grid_of(part, IMAGES, 8)
    with served(part, grid) as (address, process):
        device = SplitDevice(part.head, grid, address, seconds=5)
        first = device.logits(IMAGES[:1])
        process.kill()
        process.wait()
        with pytest.raises(SplitError, match=r"is gone .*start it again"):
            device.logits(IMAGES[:1])
    assert part.tail is not None
    with listening(SplitServer(part.tail.SerializeToString(), grid, port=address[1])):
        assert np.array_equal(device.logits(IMAGES[:1]), first)
    device.close()


def test_a_server_that_leaves_in_the_middle_of_an_answer_is_told(model: onnx.ModelProto) -> None:
    part = parts_of(model)[2]
    grid = grid_of(part, IMAGES, 8)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def half_an_answer() -> None:
            link, _ = listener.accept()
            with link:
                receive(link)
                link.sendall(b"CWS1\2\x28\0\0\0abc")

        thread = threading.Thread(target=half_an_answer)
        thread.start()
        device = SplitDevice(part.head, grid, listener.getsockname(), seconds=5)
        with pytest.raises(SplitError, match="in the middle of a message"):
            device.logits(IMAGES[:1])
        thread.join()


def test_a_device_with_the_whole_model_finishes_alone(model: onnx.ModelProto) -> None:
    part = parts_of(model)[2]
    assert part.tail is not None
    grid = grid_of(part, IMAGES, 8)
    with listening(SplitServer(part.tail.SerializeToString(), grid)) as server:
        address = server.address
        device = SplitDevice(part.head, grid, address)
        wanted = device.logits(IMAGES[:2])
        device.close()
    device = SplitDevice(part.head, grid, address, alone=part.tail)
    assert np.array_equal(device.logits(IMAGES[:2]), wanted)
    assert device.alone_for == 2


def test_another_program_at_the_address_is_told_apart(model: onnx.ModelProto) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(SplitError, match="another program"):
            receive(right)


def test_a_value_of_another_cut_is_refused_and_the_connection_lives_on(model: onnx.ModelProto) -> None:
    part = parts_of(model)[2]
    assert part.tail is not None
    grid = grid_of(part, IMAGES, 8)
    with listening(SplitServer(part.tail.SerializeToString(), grid)) as server:
        with socket.create_connection(server.address) as link:
            send(link, Kind.VALUE, b"\0abc")
            answer = receive(link)
            assert answer is not None
            assert answer[0] is Kind.REFUSAL
            send(link, Kind.VALUE, grid.encode(np.zeros((1, *grid.shape), np.float32)))
            answer = receive(link)
            assert answer is not None
            assert answer[0] is Kind.ANSWER
        with pytest.raises(SplitError, match="Nothing can listen"):
            SplitServer(part.tail.SerializeToString(), grid, port=server.address[1]).server_close()


def test_the_best_cut_follows_the_network_and_the_device(model: onnx.ModelProto) -> None:
    fast = plan_split(model, IMAGES, IMAGES, NETWORKS["ethernet"], slowdown=1e4)
    slow = plan_split(model, IMAGES, IMAGES, Network("slow", 0.01, 2000.0))
    assert fast.best.name == ALL_ON_SERVER
    assert slow.best.name == ALL_ON_DEVICE
    for cut in slow.cuts:
        assert cut.total_ms == pytest.approx(cut.device_ms + cut.network_ms + cut.server_ms)
    coarse = plan_split(model, IMAGES, IMAGES, NETWORKS["wifi"], bits=2)
    fine = plan_split(model, IMAGES, IMAGES, NETWORKS["wifi"], bits=8)
    assert all(few.bytes < many.bytes for few, many in zip(coarse.cuts[:-1], fine.cuts[:-1], strict=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bits": 9}, "1 to 8 bits"),
        ({"slowdown": 0}, "must be positive"),
        ({"slowdown": float("nan")}, "must be positive"),
        ({"speedup": float("inf")}, "must be positive"),
    ],
)
def test_numbers_out_of_range_are_told(model: onnx.ModelProto, changes: dict[str, float], said: str) -> None:
    with pytest.raises(SplitError, match=said):
        plan_split(model, IMAGES, IMAGES, NETWORKS["wifi"], **changes)  # type: ignore[arg-type]


def test_the_command_refuses_a_speed_that_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["split", "--model", "lenet5", "--data", "fashion_mnist", "--images", "2"]
    assert main([*command, "--mbps", "nan"]) == 2
    assert "must be positive" in capsys.readouterr().err


def test_an_unknown_cut_names_those_there_are(model: onnx.ModelProto) -> None:
    with pytest.raises(SplitError, match=f"cannot be cut at 'nowhere'; it can at {ALL_ON_SERVER}, "):
        find_part(parts_of(model), "nowhere")


def test_the_command_finds_and_runs_the_best_cut(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["split", "--model", "lenet5", "--data", "fashion_mnist", "--network", "4g", "--images", "5"]
    assert main([*command, "--run", "best", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["run"]["equal"]
    assert report["best"] in [cut["name"] for cut in report["cuts"]]
    assert main([*command, "--run", "nowhere"]) == 2
    assert "cannot be cut at 'nowhere'" in capsys.readouterr().err
