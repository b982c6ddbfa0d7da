"""Models that were made here: an architecture as plain data, kept in the same file as its weights.

A ``.safetensors`` file holds tensors and a few words of text; the words say how to build the architecture, so
that ``load_model`` opens the file by itself and nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..data.dataset import Normalization
from .heads import with_classes
from .model import Model, ModelError
from .state_dict import fit_state_dict, read_state_dict
from .zoo import ARCHITECTURES
from .zoo.scaling import SCALED

#: The word under which a file says how its architecture is built.
KEY = "workbench"
#: Bounds of what a file may say, so that a forged one takes no memory.
MOST_CLASSES = 1_000_000
MOST_VALUES = 2**26


@dataclass(frozen=True)
class Design:
    """An architecture: a zoo name or ``timm:NAME``, and the classes of its last layer where they are others.

    One of the zoo can be ``width`` times as wide and ``depth`` times as deep; see ``zoo.scaling``.
    """

    base: str
    classes: int | None = None
    width: float = 1.0
    depth: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.base, str):
            raise ModelError(f"A design's base is the name of an architecture, not {self.base!r}.")
        if self.classes is not None and not (type(self.classes) is int and 1 <= self.classes <= MOST_CLASSES):
            raise ModelError(f"A design has 1 to {MOST_CLASSES:,} classes, not {self.classes!r}.")
        for value in (self.width, self.depth):
            if not isinstance(value, int | float):
                raise ModelError(f"A design's width and depth are numbers, not {value!r}.")
        for name, value in (("width", self.width), ("depth", self.depth)):
            if not 0.05 <= value <= 4:
                raise ModelError(f"A design's {name} is from 0.05 to 4 times the architecture's, not {value:g}.")
        if (self.width, self.depth) != (1, 1) and self.base not in SCALED:
            raise ModelError(f"'{self.base}' cannot be made narrower or shallower: take one of the zoo.")

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        """Return the architecture with weights of chance, for images ``(C, H, W)``."""
        from .hubs import build_untrained, named

        hub = named(self.base)
        if hub is None and self.base not in ARCHITECTURES:
            raise ModelError(f"There is no architecture '{self.base}' to build this model from.")
        module = build_untrained(*hub) if hub else SCALED[self.base][0](self.width, self.depth)
        if self.classes is None:
            return module
        return with_classes(Model(self.base, module.eval(), "module", input_shape), self.classes).module


def design_of(model: Model) -> Design | None:
    """Return how ``model`` can be built again, where that is known."""
    if model.origin == "zoo":
        return Design(model.name)
    if model.origin in ("torchvision", "timm"):
        return Design(f"{model.origin}:{model.name}")
    said = model.card.get("design")
    return None if said is None else Design(**said)


def made(model: Model, design: Design | None, **card: Any) -> Model:
    """Return ``model`` as one that was made here by ``design``; ``card`` is what is known about its making."""
    about = {**card, **({} if design is None else {"design": asdict(design)})}
    origin = "file" if design is not None else "module"
    return dataclasses.replace(model, origin=origin, card=about, classes=tuple(card.get("classes", ())))


def save_model(model: Model, path: Path) -> None:
    """Write ``model``, one that was made here, as ``.safetensors`` to ``path``."""
    said = {
        "name": model.name,
        "card": dict(model.card),
        "input_shape": model.input_shape,
        "normalization": None if model.normalization is None else asdict(model.normalization),
    }
    tensors = {name: tensor.contiguous().clone() for name, tensor in model.module.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, {KEY: json.dumps(said)})
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{model.name} could not be saved to {path} ({error}); choose another place.") from error


def load_made(path: Path) -> Model | None:
    """Return the model in a file of ``save_model``; None where the file does not say how it is built."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except SafetensorError:
        return None  # said by who reads the tensors
    if text is None:
        return None
    try:
        said = json.loads(text)
        design = Design(**said["card"]["design"])
        shape = tuple(int(side) for side in said["input_shape"])
        if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > MOST_VALUES:
            raise ModelError(f"{path} is damaged: it is for images of the shape {shape}.")
        normal = said["normalization"]
        normalization = None if normal is None else Normalization(tuple(normal["mean"]), tuple(normal["std"]))
    except ModelError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    try:
        module = design.build(shape).eval()
    except ModelError:
        raise
    except Exception as error:  # a name that its library does not know, say
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
        raise ModelError(f"The architecture '{design.base}' of {path} cannot be built: {reason}.") from error
    notes = fit_state_dict(module, read_state_dict(path), path.name)
    card: dict[str, Any] = said["card"]
    classes = tuple(str(name) for name in card.get("classes", ()))
    return Model(path.stem, module.requires_grad_(False), "file", shape, normalization, card, notes, classes)
