"""Pretrained models of torchvision and timm, where the person has them installed."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType
from typing import Any

from torch import nn

from ..data.dataset import Normalization
from .model import Model, ModelError, prepare

HUBS = ("torchvision", "timm")

#: A module, its image shape, mean and std, card, and the names of its classes.
_Found = tuple[nn.Module, tuple[int, ...], Any, Any, dict[str, Any], tuple[str, ...]]


def load_from_hub(hub: str, name: str) -> Model:
    """Return the pretrained ``name`` of ``torchvision`` or ``timm``, with its own normalisation.

    Downloads the weights where they are not cached yet. Raises ``ModelError`` where the library does
    not import, has no such model, or cannot fetch the weights.
    """
    library = _import(hub)
    known = library.models.list_models() if hub == "torchvision" else library.list_models(pretrained=True)
    known = sorted({*known, *(entry.split(".")[0] for entry in known)})  # timm's tags may be left out
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ModelError(f"{hub} has no model '{name}'{f'; did you mean {near[0]!r}?' if near else '.'}")
    build = _torchvision if hub == "torchvision" else _timm
    try:
        module, shape, mean, std, card, classes = build(library, name)
    except (OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(f"The weights of {hub}:{name} could not be fetched: {reason}.") from error
    copied, notes = prepare(module)
    normalization = Normalization(tuple(mean), tuple(std))
    return Model(name, copied, hub, shape, normalization, card, notes, classes)


def build_untrained(hub: str, name: str) -> nn.Module:
    """Return the architecture of ``name`` with weights of chance; nothing is fetched."""
    library = _import(hub)
    found: nn.Module
    if hub == "torchvision":
        found = library.models.get_model(name, weights=None)
    else:
        found = library.create_model(name, pretrained=False)
    return found


def _import(hub: str) -> ModuleType:
    try:
        if hub == "torchvision":
            importlib.import_module("torchvision.models")
        return importlib.import_module(hub)
    except ImportError as error:
        raise ModelError(f"{hub} is not installed: run `pip install {hub}` to use its models.") from error
    except Exception as error:  # a build for another torch fails while it registers its operators
        raise ModelError(
            f"{hub} is installed but does not import ({str(error).splitlines()[0].rstrip('.')}): "
            "install the build that matches this torch."
        ) from error


def _torchvision(library: Any, name: str) -> _Found:
    weights = library.models.get_model_weights(name).DEFAULT
    transforms = weights.transforms()
    size = transforms.crop_size[0]
    card = {"weights": str(weights), "metrics": weights.meta.get("_metrics", {})}
    module = library.models.get_model(name, weights=weights)
    return module, (3, size, size), transforms.mean, transforms.std, card, tuple(weights.meta.get("categories", ()))


def _timm(library: Any, name: str) -> _Found:
    module = library.create_model(name, pretrained=True)
    config = module.pretrained_cfg
    card = {"weights": config.get("hf_hub_id") or config.get("url"), "license": config.get("license")}
    return module, tuple(config["input_size"]), config["mean"], config["std"], card, ()


def named(source: str) -> tuple[str, str] | None:
    """Return ``("timm", "resnet18")`` for ``"timm:resnet18"``, and nothing for other strings."""
    hub, colon, name = source.partition(":")
    return (hub, name) if colon and hub in HUBS else None
