"""Every source of a model gives one ready to be compressed, and leaves what the person gave alone."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn.utils import parametrizations, prune

import workbench as wb
from workbench.data.dataset import Normalization
from workbench.models import Model, ModelError, available_models, layers_of, load_model, load_zoo
from workbench.models.zoo import ARCHITECTURES, CHECKPOINTS, LeNet5, ResNet20

TRAINED = [name for name in ARCHITECTURES if (CHECKPOINTS / f"{name}.json").exists()]


def seeded(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def same_outputs(left: nn.Module, right: nn.Module, shape=(1, 28, 28)) -> bool:
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(left(images), right(images))


@pytest.fixture
def zoo_folder(tmp_path):
    """A zoo with one small checkpoint of random weights and its card."""
    module = seeded(ARCHITECTURES["lenet300"])
    path = tmp_path / "lenet300.safetensors"
    save_file(module.state_dict(), path)
    card = {
        "name": "lenet300",
        "dataset": "fashion_mnist",
        "normalization": {"mean": [0.25], "std": [0.5]},
        "test_accuracy": 0.125,
        "test_images": 10_000,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (tmp_path / "lenet300.json").write_text(json.dumps(card))
    return tmp_path


# The zoo


def test_the_zoo_gives_the_weights_on_disk_and_what_its_card_says(zoo_folder):
    model = load_zoo("lenet300", zoo_folder)
    assert (model.name, model.origin, model.input_shape) == ("lenet300", "zoo", (1, 28, 28))
    assert model.normalization == Normalization((0.25,), (0.5,))
    assert model.card["test_accuracy"] == 0.125
    assert same_outputs(model.module, seeded(ARCHITECTURES["lenet300"]))
    assert not any(part.training for part in model.module.modules())


@pytest.mark.parametrize("name", TRAINED)
def test_each_trained_checkpoint_loads_and_is_the_one_its_card_describes(name):
    model = load_model(name)
    assert model.card["parameters"] == sum(parameter.numel() for parameter in model.module.parameters())
    assert sum(layer.macs for layer in layers_of(model.module, model.input_shape)) > 0


def test_a_changed_checkpoint_is_refused(zoo_folder):
    path = zoo_folder / "lenet300.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"lenet300\.safetensors is damaged: its SHA-256"):
        load_zoo("lenet300", zoo_folder)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_missing_part_of_a_checkpoint_says_how_to_get_it(zoo_folder, suffix):
    (zoo_folder / f"lenet300.{suffix}").unlink()
    with pytest.raises(ValueError, match=rf"has no lenet300\.{suffix} .*workbench\.train\.zoo lenet300"):
        load_zoo("lenet300", zoo_folder)


@pytest.mark.parametrize("text", ["", "[]", '{"sha256": 3}', "{"])
def test_a_damaged_card_is_refused(zoo_folder, text):
    (zoo_folder / "lenet300.json").write_text(text)
    with pytest.raises(ValueError, match=r"card .*lenet300\.json is damaged"):
        load_zoo("lenet300", zoo_folder)


def test_the_list_has_every_architecture_with_what_is_known(zoo_folder):
    entries = {entry["name"]: entry for entry in available_models(zoo_folder)}
    assert list(entries) == list(ARCHITECTURES)
    assert entries["lenet300"]["parameters"] == 266_610
    assert entries["lenet300"]["test_accuracy"] == 0.125
    assert entries["lenet300"]["problem"] is None
    assert entries["resnet20"]["test_accuracy"] is None
    assert "resnet20.json" in entries["resnet20"]["problem"]
    json.dumps(list(entries.values()))


# Modules of the person


class Beside(nn.Module):
    """Holds an expanded buffer, a part with extra state, and a Linear without outputs beside plain layers."""

    class Counting(nn.Linear):
        calls = 3

        def get_extra_state(self):
            return {"calls": self.calls}

        def set_extra_state(self, state):
            self.calls = state["calls"]

    def __init__(self):
        super().__init__()
        self.fc, self.out, self.none = self.Counting(784, 8), nn.Linear(8, 10), nn.Linear(16, 0)
        self.register_buffer("shift", torch.ones(1).expand(8))

    def forward(self, x):
        x = self.fc(x.flatten(1)) + self.shift
        return torch.cat([self.out(x.relu()), self.none(x.repeat(1, 2))], 1)


@pytest.mark.parametrize("text", ["[]", "- prune: {ratio: 0.5}\n- quantize: {bits: 4}", "- share: {bits: 3}"])
def test_expanded_buffers_extra_state_and_empty_layers_do_not_keep_a_model_from_being_compressed(text, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the layer without outputs
        module = seeded(Beside)
    ours = wb.compress(module, text, image_shape=(1, 28, 28))
    assert [layer.name for layer in ours.layers] == ["fc", "out"]
    again = wb.load_compressed(ours.save(tmp_path / "beside.wbz"), model=module).module
    assert same_outputs(again, ours.module)
    assert text != "[]" or same_outputs(ours.module, module)
    assert "fc._extra_state" in module.state_dict()


class TiedHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.zfirst, self.head = nn.Linear(784, 784), nn.Linear(784, 784)
        self.head.weight = self.zfirst.weight

    def forward(self, x):
        return self.head(self.zfirst(x.flatten(1)))[:, :10]


@pytest.mark.parametrize("left_out", ["zfirst.weight", "head.weight"])
def test_a_file_may_keep_any_one_name_of_a_tied_tensor(left_out, tmp_path):
    module, path = seeded(TiedHead), tmp_path / "tied.safetensors"
    save_model(module, str(path))
    assert same_outputs(load_model(path, architecture=seeded(TiedHead, 1)).module, module)
    save_file({name: value for name, value in module.state_dict().items() if name != left_out}, path)
    loaded = load_model(path, architecture=seeded(TiedHead, 1)).module
    assert same_outputs(loaded, module)
    assert loaded.head.weight is loaded.zfirst.weight
    save_file({name: value for name, value in module.state_dict().items() if name.endswith("bias")}, path)
    with pytest.raises(ModelError, match=r"missing 'zfirst\.weight'"):
        load_model(path, architecture=seeded(TiedHead, 1))


def meta():
    with torch.device("meta"):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def with_sparse_buffer():
    module = LeNet5()
    module.register_buffer("mask", torch.eye(3).to_sparse())
    return module


def already_quantized():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(LeNet5().eval(), {nn.Linear})


@pytest.mark.parametrize(("make", "words"), [
    (lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))), "is a TorchScript program"),
    (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "'1.weight' of Sequential has no shape yet"),
    (meta, "'1.weight' of Sequential is on the meta device"),
    (with_sparse_buffer, "'mask' of LeNet5 is a sparse tensor"),
    (already_quantized, "is quantized already in 'fc1'"),
])  # fmt: skip
def test_modules_without_readable_weights_are_refused_in_one_sentence(make, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = make()
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        load_model(module)
    assert "\n" not in str(caught.value)


def test_a_module_is_copied_and_its_training_flag_left_alone():
    module = seeded(ResNet20).train()
    module.stage1.eval()
    before = copy.deepcopy(module.state_dict())
    model = load_model(module)
    assert model.module is not module
    assert module.training
    assert not module.stage1.training
    assert not any(part.training for part in model.module.modules())
    assert all(parameter.requires_grad for parameter in module.parameters())
    with torch.no_grad():
        model.module.conv1.weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_module_goes_by_its_class_name_unless_named():
    shape, normalization = (1, 28, 28), Normalization((0.5,), (0.5,))
    assert load_model(LeNet5()).name == "LeNet5"
    model = load_model(LeNet5(), name="mine", input_shape=shape, normalization=normalization)
    assert (model.name, model.input_shape, model.normalization, model.origin) == (
        "mine", shape, normalization, "module",
    )  # fmt: skip


def test_a_model_passes_through():
    model = Model("mine", LeNet5(), "module")
    assert load_model(model).module is model.module
    assert load_model(model, name="other").name == "other"


def test_half_precision_becomes_float32_and_says_so():
    model = load_model(LeNet5().half())
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    assert "float16" in model.notes[0]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize(
    "reparametrize",
    [
        lambda module: prune.l1_unstructured(module.conv2, "weight", 0.5),
        lambda module: parametrizations.weight_norm(module.conv2),
        lambda module: nn.utils.weight_norm(module.conv2),
        lambda module: nn.utils.spectral_norm(module.conv2),
    ],
    ids=["prune", "parametrization", "weight_norm", "spectral_norm"],
)
def test_reparametrized_weights_become_plain_with_the_same_outputs(reparametrize):
    module = seeded(LeNet5)
    reparametrize(module)
    module(torch.zeros(1, 1, 28, 28))
    names = set(module.state_dict())
    model = load_model(module)
    assert "conv2.weight" in dict(model.module.named_parameters())
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model.module(images), module.eval()(images), atol=1e-6)
    assert set(module.state_dict()) == names, "the person's own module keeps its parametrization"
    assert "conv2.weight" in model.notes[0]


def test_data_parallel_is_unwrapped():
    assert isinstance(load_model(nn.DataParallel(LeNet5())).module, LeNet5)


def test_a_module_that_cannot_be_copied():
    class Stubborn(LeNet5):
        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

    with pytest.raises(ModelError, match=r"Stubborn cannot be copied \(no copies\)"):
        load_model(Stubborn())


# State dicts


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth"])
def test_a_state_dict_with_its_architecture(tmp_path, suffix):
    module, path = seeded(ResNet20), tmp_path / f"mine.{suffix}"
    save_file(module.state_dict(), path) if suffix == "safetensors" else torch.save(module.state_dict(), path)
    for architecture in (seeded(ResNet20, 1), "resnet20"):
        model = load_model(path, architecture=architecture)
        assert (model.name, model.origin) == ("mine", "file")
        assert same_outputs(model.module, module)
    assert same_outputs(load_model(str(path), architecture="resnet20").module, module)


def test_the_given_architecture_keeps_its_own_weights(tmp_path):
    path, architecture = tmp_path / "mine.pt", seeded(LeNet5, 1)
    torch.save(seeded(LeNet5).state_dict(), path)
    load_model(path, architecture=architecture)
    assert same_outputs(architecture, seeded(LeNet5, 1))


def test_a_zoo_architecture_is_recognised_by_its_tensors(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(seeded(LeNet5).state_dict(), path)
    model = load_model(path)
    assert isinstance(model.module, LeNet5)
    assert "lenet5" in model.notes[0]


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
def test_a_training_checkpoint_with_the_state_dict_inside(tmp_path, nest):
    path = tmp_path / "mine.pt"
    torch.save({"epoch": 3, nest: seeded(LeNet5).state_dict(), "optimizer": {"lr": 0.1}}, path)
    assert same_outputs(load_model(path, architecture="lenet5").module, seeded(LeNet5))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_wrappers_prefix_is_dropped_and_noted(tmp_path, prefix):
    path = tmp_path / "mine.safetensors"
    save_file({prefix + name: value for name, value in seeded(LeNet5).state_dict().items()}, path)
    model = load_model(path, architecture="lenet5")
    assert same_outputs(model.module, seeded(LeNet5))
    assert prefix in model.notes[0]


def test_a_state_dict_without_batchnorm_counters(tmp_path):
    path, module = tmp_path / "old.pt", seeded(ResNet20)
    state = {name: value for name, value in module.state_dict().items() if "num_batches" not in name}
    torch.save(state, path)
    assert same_outputs(load_model(path, architecture="resnet20").module, module)


# Other libraries


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm is not installed: run `pip install timm`"):
        load_model("timm:resnet18")


def fake_timm(**changes) -> ModuleType:
    module = ModuleType("timm")
    built = seeded(lambda: ResNet20(channels=3)).train()
    built.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3, "url": "u"}
    known = {"list_models": lambda pretrained: ["tiny.in1k"], "create_model": lambda name, pretrained: built}
    vars(module).update(known | changes)
    return module


def test_timm_gives_shape_and_normalisation(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", fake_timm())
    model = load_model("timm:tiny")
    assert (model.name, model.origin, model.input_shape) == ("tiny", "timm", (3, 32, 32))
    assert model.normalization == Normalization((0.5,) * 3, (0.25,) * 3)
    assert not model.module.training


def test_an_unknown_name_of_a_library_suggests_the_nearest(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", fake_timm())
    with pytest.raises(ModelError, match=r"timm has no model 'tinny'; did you mean 'tiny'\?"):
        load_model("timm:tinny")


def test_weights_that_cannot_be_fetched(monkeypatch):
    def create_model(name, pretrained):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "timm", fake_timm(create_model=create_model))
    with pytest.raises(ModelError, match=r"weights of timm:tiny could not be fetched: no route to host\."):
        load_model("timm:tiny")


def test_torchvision_gives_shape_and_normalisation(monkeypatch):
    transforms = SimpleNamespace(crop_size=[224], mean=[0.5] * 3, std=[0.25] * 3)
    weights = SimpleNamespace(
        DEFAULT=SimpleNamespace(
            transforms=lambda: transforms, meta={"_metrics": {}, "categories": ["tench", "goldfish"]}
        )
    )
    models = ModuleType("torchvision.models")
    models.list_models = lambda: ["tiny"]
    models.get_model_weights = lambda name: weights
    models.get_model = lambda name, weights: seeded(lambda: ResNet20(channels=3))
    library = ModuleType("torchvision")
    library.models = models
    monkeypatch.setitem(sys.modules, "torchvision", library)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    model = load_model("torchvision:tiny")
    assert (model.origin, model.input_shape) == ("torchvision", (3, 224, 224))
    assert model.classes == ("tench", "goldfish")
    assert model.normalization == Normalization((0.5,) * 3, (0.25,) * 3)
