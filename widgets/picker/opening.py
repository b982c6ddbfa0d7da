"""From what a person chose to a Session: names, files, folders and packed files.

Runs on the picker's loading thread. Images of a folder are brought to the size and the channels the model
takes. Where both can be loaded but don't belong together, ``Misfit`` carries both, so that what was just
opened can wait for its partner.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from workbench.errors import WorkbenchError

from ..recipe.link import FILE
from .made import base_of, made_from

if TYPE_CHECKING:
    from workbench.data.dataset import Dataset
    from workbench.models.model import Model
    from workbench.session import Session

Kind = Literal["model", "data"]
PACKED = ".wbz"
#: What can be opened as a file, by kind; a folder of images is data too.
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "model": (".safetensors", ".pt", ".pth", ".onnx", PACKED),
    "data": (".npz", ".parquet"),
}


class Misfit(WorkbenchError):
    """A model and a data set that can both be used, but not together; the sentence says why."""

    def __init__(self, sentence: str, model: Model, data: Dataset) -> None:
        super().__init__(sentence)
        self.model, self.data = model, data


@dataclass(frozen=True)
class Source:
    """Where a model or a data set comes from.

    ``given`` is what the loaders take: a name, a path, or what is loaded already. ``address`` is what a
    link says for it; that of an upload begins with ``file:`` and means nothing to another page.
    """

    name: str
    given: Any
    address: str

    @classmethod
    def named(cls, name: str) -> Source:
        """A model of the zoo, or a data set known by name."""
        return cls(name, name, name)

    @classmethod
    def at(cls, path: Path, uploaded: bool = False) -> Source:
        """A file or a folder; ``uploaded`` ones are this page's own."""
        return cls(path.name, path, FILE + path.name if uploaded else str(path))

    @classmethod
    def of(cls, loaded: Any) -> Source:
        """A model or a data set that was given to the Session."""
        return cls(loaded.name, loaded, FILE + loaded.name)

    @property
    def is_uploaded(self) -> bool:
        """Whether it is a file or a folder that the page sent."""
        return isinstance(self.given, Path) and self.address.startswith(FILE)

    @property
    def is_packed(self) -> bool:
        """Whether it is a packed file, which names its model and carries a recipe."""
        return isinstance(self.given, Path) and self.given.suffix.lower() == PACKED


@dataclass(frozen=True)
class Packed:
    """What a packed file says of itself: its model's name and architecture, its recipe as YAML."""

    name: str
    origin: str
    architecture: str
    recipe: str


def read_packed(path: Path) -> Packed:
    """Return what the packed file at ``path`` says; raises ``WorkbenchError`` where it cannot be read."""
    import yaml

    from workbench.encodings import load_archive

    archive = load_archive(path)
    said = {key: str(archive.model.get(key, "")) for key in ("name", "origin", "architecture")}
    steps = archive.recipe or []
    return Packed(**said, recipe=yaml.safe_dump(steps, sort_keys=False, default_flow_style=None) if steps else "")


def holds_the_same(session: Session, path: Path) -> bool:
    """Return whether the session's compressed model has the very tensors of the packed file at ``path``."""
    import numpy as np

    from workbench.encodings import load_archive

    here, there = session.compressed.archive.decode(), load_archive(path).decode()
    return here.keys() == there.keys() and all(np.array_equal(here[name], there[name]) for name in here)


def open_session(model: Any, data: Any) -> Session:
    """Return a Session on ``model`` and ``data``: names, paths, or loaded ones.

    Raises ``Misfit`` where each is sound but the two don't fit, other ``WorkbenchError`` for the rest.
    """
    from workbench.models.check import check_model, require_model
    from workbench.models.load import load_model
    from workbench.session import Session

    # a file keeps its suffix in its name: "resnet20.onnx" is not the zoo's "resnet20"
    network = load_model(model, name=model.name) if isinstance(model, Path) else load_model(model)
    base = base_of(data)
    images = load_images(base or data, network.input_shape, network.classes)
    shape = network.input_shape
    if shape is not None:
        require_model(network.module, shape)
        problem = _other_shape(network, images) or next(
            iter(check_model(network.module, images.image_shape, images.classes or None)), ""
        )
        if problem:
            raise Misfit(problem, network, images)
    return Session(network, made_from(data, images, network) if base else images)


def load_images(data: Any, shape: tuple[int, ...] | None, classes: tuple[str, ...]) -> Dataset:
    """Return the data set as ``load_fitting`` does, under a name of its own where it is called as a named one."""
    import dataclasses

    from workbench.data.catalog import available_datasets
    from workbench.data.fitting import load_fitting

    loaded = load_fitting(data, shape, classes)
    if isinstance(data, Path) and any(loaded.name == entry.name for entry in available_datasets()):
        return dataclasses.replace(loaded, name=f"{loaded.name}, opened")
    return loaded


def _other_shape(model: Model, data: Dataset) -> str:
    from workbench.data.dataset import shown_shape

    if model.input_shape is None or tuple(model.input_shape) == data.image_shape:
        return ""
    return (
        f"{model.name} takes images of {shown_shape(model.input_shape)} (channels×height×width), "
        f"and those of {data.name} are {shown_shape(data.image_shape)}."
    )
