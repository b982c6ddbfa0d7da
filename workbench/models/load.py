"""``load_model``: one door for every source of a model, and the list of what the zoo has."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.catalog import available_datasets
from ..data.dataset import Normalization
from .model import Model, ModelError, listed, prepare
from .state_dict import fit_state_dict, fits, read_state_dict
from .zoo import ARCHITECTURES, CHECKPOINTS
from .zoo.cards import read_card, read_weights

#: One image of Fashion-MNIST, on which the zoo is trained.
ZOO_SHAPE = (1, 28, 28)
WEIGHTS = (".safetensors", ".pt", ".pth")


def load_model(
    source: str | os.PathLike[str] | nn.Module | Model,
    *,
    architecture: nn.Module | str | None = None,
    name: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    normalization: Normalization | None = None,
) -> Model:
    """Return a ``Model``, ready to be compressed, from any of these sources.

    - a zoo name (``"resnet20"``);
    - a state dict file, ``.safetensors`` or ``.pt``/``.pth``, with the ``architecture`` it belongs to
      (a module or a zoo name; found by itself where the tensors are those of a zoo architecture, or where
      the file was made here and says so);
    - an ``.onnx`` file;
    - ``"torchvision:NAME"`` or ``"timm:NAME"`` where that library is installed;
    - any ``nn.Module``, which is copied and never changed; a ``Model``, which passes through.

    ``name``, ``input_shape`` (one image's ``(C, H, W)``) and ``normalization`` say what the source
    does not. Nothing is ever unpickled. Raises ``ModelError`` with what is wrong and what to do.
    """
    model = _load(source, architecture, input_shape)
    return dataclasses.replace(
        model,
        name=name or model.name,
        input_shape=input_shape or model.input_shape,
        normalization=normalization or model.normalization,
    )


def load_zoo(name: str, folder: Path = CHECKPOINTS) -> Model:
    """Return the zoo's trained ``name``, its checkpoint verified against its card's SHA-256."""
    card = read_card(name, folder)
    module = ARCHITECTURES[name]()
    notes = fit_state_dict(module, read_weights(name, card["sha256"], folder), f"{name}.safetensors")
    said = card["normalization"]
    normalization = Normalization(tuple(said["mean"]), tuple(said["std"]))
    classes = next((entry.classes for entry in available_datasets() if entry.name == card.get("dataset")), ())
    return Model(name, prepare(module)[0], "zoo", ZOO_SHAPE, normalization, card, notes, classes)


def available_models(folder: Path = CHECKPOINTS) -> list[dict[str, Any]]:
    """Return one entry a zoo model: name, summary, parameters, accuracy on the test split, source.

    A model whose checkpoint is missing or damaged is listed with ``test_accuracy`` None and a
    ``problem``.
    """
    return [_entry(name, folder) for name in ARCHITECTURES]


def _entry(name: str, folder: Path) -> dict[str, Any]:
    with torch.device("meta"):
        module = ARCHITECTURES[name]()
    summary = (type(module).__doc__ or "").strip().splitlines()[0].rstrip(".:").replace("``", "")
    entry: dict[str, Any] = {
        "name": name,
        "summary": summary,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "test_accuracy": None,
        "test_images": None,
        "dataset": None,
        "input_shape": list(ZOO_SHAPE),
        "source": "zoo",
        "problem": None,
    }
    try:
        card = read_card(name, folder)
        read_weights(name, card["sha256"], folder)
    except ValueError as error:
        return {**entry, "problem": str(error)}
    return {**entry, **{key: card.get(key) for key in ("test_accuracy", "test_images", "dataset")}}


def _load(source: Any, architecture: nn.Module | str | None, input_shape: tuple[int, ...] | None) -> Model:
    if isinstance(source, Model):
        return source
    if isinstance(source, nn.Module):
        module, notes = prepare(source)
        return Model(type(source).__name__, module, "module", notes=notes)
    if not isinstance(source, str | os.PathLike):
        raise ModelError(_no_model(source))
    if isinstance(source, str) and source in ARCHITECTURES:
        return load_zoo(source)
    from .hubs import load_from_hub, named

    if isinstance(source, str) and (hub := named(source)):
        return load_from_hub(*hub)
    return _load_file(Path(source).expanduser(), architecture, input_shape)


def _load_file(path: Path, architecture: nn.Module | str | None, input_shape: tuple[int, ...] | None) -> Model:
    suffix = path.suffix.lower()
    if path.is_dir():
        raise ModelError(f"{path} is a folder: give one file, {_suffixes()}.")
    if not path.exists():
        raise ModelError(_unknown(path))
    try:
        if suffix == ".onnx":
            from .onnx_import import load_onnx

            module, shape, notes = load_onnx(path, input_shape)
            return Model(path.stem, module, "onnx", shape, notes=notes)
        if suffix in WEIGHTS:
            return _load_weights(path, architecture)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    if suffix == ".wbz":
        raise ModelError(
            f"{path} is a packed model, which load_compressed runs and 'workbench benchmark' times: to measure it, or "
            "to go on from it, give the model that it was made of and its recipe."
        )
    raise ModelError(f"{path} is of a kind the workbench does not load: give {_suffixes()}.")


def _load_weights(path: Path, architecture: nn.Module | str | None) -> Model:
    if architecture is None and path.suffix.lower() == ".safetensors":
        from .designs import load_made

        model = load_made(path)
        if model is not None:
            return model
    tensors = read_state_dict(path)
    if architecture is None:
        architecture = _recognise(path, tensors)
        notes: tuple[str, ...] = (f"The file's tensors are those of the zoo's {architecture}.",)
    else:
        notes = ()
    if isinstance(architecture, str):
        if architecture not in ARCHITECTURES:
            raise ModelError(f"There is no architecture '{architecture}': give a module or {_zoo()}.")
        fresh, shape = ARCHITECTURES[architecture](), ZOO_SHAPE
    elif not isinstance(architecture, nn.Module):
        raise ModelError(_no_model(architecture))
    else:
        fresh, changes = prepare(architecture)
        shape, notes = None, notes + changes
    notes += fit_state_dict(fresh, tensors, path.name)
    return Model(path.stem, prepare(fresh)[0], "file", shape, notes=notes)


def _recognise(path: Path, tensors: dict[str, Tensor]) -> str:
    """Return the zoo architecture with exactly these tensor names and shapes."""
    for name, build in ARCHITECTURES.items():
        with torch.device("meta"):
            module = build()
        if fits(module, tensors):
            return name
    raise ModelError(
        f"{path} holds weights and no architecture: give it, as in "
        f"load_model({path.name!r}, architecture=your_module), or name one of the zoo ({_zoo()})."
    )


def _no_model(source: object) -> str:
    if isinstance(source, type) and issubclass(source, nn.Module):
        return f"{source.__name__} is a class: give a model made of it, such as {source.__name__}()."
    if isinstance(source, Mapping):
        return "A state dict has no architecture: load it into the module, with load_state_dict, and give the module."
    return f"A model is a name, a file or an nn.Module, and {type(source).__name__} is none of them."


def _unknown(path: Path) -> str:
    if path.suffix:
        return f"There is no file {path}."
    near = difflib.get_close_matches(str(path).lower(), ARCHITECTURES, 1)
    guess = f"did you mean '{near[0]}'? " if near else ""
    return (
        f"There is no model '{path}': {guess}The zoo has {_zoo()}; a file ({_suffixes()}), "
        "'torchvision:NAME' and 'timm:NAME' work too."
    )


def _zoo() -> str:
    return listed(list(ARCHITECTURES), 20)


def _suffixes() -> str:
    return ", ".join((*WEIGHTS, ".onnx"))
