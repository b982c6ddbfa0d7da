"""Model and dataset: what to choose from, what was loaded, and why it could not be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import traitlets

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot


DEFAULT_MODEL = "resnet20"
DEFAULT_DATA = "fashion_mnist"


class PickerView(View):
    """Loads models and data sets away from the comm's thread and opens a Session on them.

    ``loaded`` is called with each new Session on the loading thread. Of several wishes made while one
    is being loaded, only the last is followed.
    """

    _esm = script("picker.js")
    _css = style("picker.css")

    models: traitlets.List[str] = traitlets.List().tag(sync=True)
    datasets: traitlets.List[str] = traitlets.List().tag(sync=True)
    chosen = traitlets.Dict({"model": "", "data": ""}).tag(sync=True)
    model_facts = traitlets.Unicode("").tag(sync=True)
    data_facts = traitlets.Unicode("").tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    can = traitlets.Dict({"undo": False, "redo": False}).tag(sync=True)

    def __init__(
        self, session: Session | None = None, loaded: Callable[[Session], None] | None = None, **traits: Any
    ) -> None:
        self._loaded = loaded
        self._wish: tuple[str, str] | None = None
        self._loader: threading.Thread | None = None
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """Say what this Session stands on."""
        self.chosen = {"model": session.model.name, "data": session.data.name}
        self.models = _with(self.models or model_names(), session.model.name)
        self.datasets = _with(dataset_names(session.model.input_shape), session.data.name)
        self.model_facts = describe_model(session)
        self.data_facts = describe_data(session)
        self.error = ""

    def draw(self, snapshot: Snapshot) -> None:
        """Show whether there is something to undo."""
        session = self.session
        if session is not None:
            with self.publishing():
                self.can = {"undo": bool(session.can_undo), "redo": bool(session.can_redo)}

    def choose(self, model: str, data: str) -> threading.Thread:
        """Load ``model`` and ``data`` in the background and open a Session on them."""
        with self.publishing():
            self._wish = (model, data)
            self.chosen = {"model": model, "data": data}
            self.status, self.error = f"Loading {model or DEFAULT_MODEL} and {data or DEFAULT_DATA}", ""
            if self._loader is None:
                self._loader = threading.Thread(target=self._load_wishes, daemon=True, name="workbench-load")
                self._loader.start()
            return self._loader

    def _load_wishes(self) -> None:
        while True:
            with self.publishing():
                wish, self._wish = self._wish, None
                if wish is None:
                    self.status, self._loader = "", None
                    return
            self._load(*wish)

    def _load(self, model: str, data: str) -> None:
        try:
            names = self.models or model_names()
            session = open_session(model or default_model(names), data or DEFAULT_DATA)
        except Exception as error:  # whatever went wrong belongs on the page, as a sentence
            with self.publishing():
                self.error = str(error) or type(error).__name__
                if self.session is not None:
                    self.chosen = {"model": self.session.model.name, "data": self.session.data.name}
            return
        with self.publishing():
            superseded = self._wish is not None
        if superseded:
            session.close()
            return
        self.attach(session)
        if self._loaded is not None:
            self._loaded(session)

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Choose another model or data set; undo and redo."""
        if content.get("do") == "choose":
            self.choose(str(content.get("model")), str(content.get("data")))
        elif content.get("do") == "undo" and self.session is not None and self.session.can_undo:
            self.session.undo()
        elif content.get("do") == "redo" and self.session is not None and self.session.can_redo:
            self.session.redo()


def open_session(model: str, data: str) -> Session:
    """Return a Session on the model and data set of these names."""
    from workbench.session import Session

    return Session(model, data)


def model_names() -> list[str]:
    """Return the zoo's models that can be loaded here."""
    from workbench.models.load import available_models

    return [entry["name"] for entry in available_models() if not entry["problem"]]


def default_model(names: list[str]) -> str:
    """Return the model a page opens on: ResNet-20, or the first there is."""
    return DEFAULT_MODEL if DEFAULT_MODEL in names or not names else names[0]


def dataset_names(shape: tuple[int, ...] | None) -> list[str]:
    """Return the data sets known by name whose images have ``shape`` (all where it is not known)."""
    from workbench.data.catalog import available_datasets

    return [entry.name for entry in available_datasets() if shape is None or entry.image_shape == tuple(shape)]


def describe_model(session: Session) -> str:
    """Say how large the model is, and how it scores where its card says so."""
    parameters = sum(parameter.numel() for parameter in session.model.module.parameters())
    facts = [f"{parameters:,} parameters", f"{len(session.layers)} layers"]
    return " · ".join([*facts, *session.model.notes])


def describe_data(session: Session) -> str:
    """Say how many images each split has and how they are normalized."""
    data = session.data
    normalization = session.model.normalization or data.normalization
    splits = [f"{name} {len(data.splits[name]):,}" for name in ("test", "validation", "train") if name in data.splits]
    return " · ".join([*splits, f"normalised by {normalization}", *data.notes])


def _with(names: list[str], name: str) -> list[str]:
    return names if name in names else [*names, name]
