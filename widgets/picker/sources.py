"""The names a picker knows and where each of them comes from; what links call them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from ..recipe.link import FILE, LinkError
from .made import base_of
from .opening import Kind, Source
from .upload import check_path

if TYPE_CHECKING:
    from workbench.session import Session

DEFAULTS: dict[Kind, str] = {"model": "resnet20", "data": "fashion_mnist"}
_NOUNS: dict[Kind, str] = {"model": "model", "data": "data set"}


class Sources:
    """What has been opened by one page, by name."""

    def __init__(self) -> None:
        self._sources: dict[tuple[Kind, str], Source] = {}

    def note(self, session: Session) -> None:
        """Note what a Session stands on, unless its source is known better already."""
        for kind, loaded in _parts(session):
            self._sources.setdefault((kind, loaded.name), _source_of(kind, loaded))

    def remember(self, kind: Kind, name: str, source: Source) -> None:
        """Note that ``name`` was opened from ``source``."""
        if source.given:
            self._sources[kind, name] = source

    def opened(self, kind: Kind) -> list[str]:
        """Return the names that came from elsewhere than the zoo or the catalog."""
        return [name for (where, name), source in self._sources.items() if where == kind and source.address != name]

    def find(self, kind: Kind, name: str, session: Session | None) -> Source:
        """Return the source of a name in the lists; what ``session`` shows is not loaded again."""
        source = self._sources.get((kind, name), Source.named(name))
        if kind == "data" and base_of(name):
            return source  # made with the model that is shown, and another may come
        loaded = getattr(session, kind) if session is not None else None
        if loaded is None or loaded.name != name or (kind == "data" and not isinstance(source.given, str)):
            return source  # a folder's images are read anew: another model may want another size
        return replace(source, given=loaded)

    def address(self, kind: Kind, name: str) -> str:
        """Return what a link calls ``name``."""
        source = self._sources.get((kind, name))
        return source.address if source is not None else name

    def addresses(self, session: Session) -> tuple[str, str]:
        """Return what a link calls the session's model and data."""
        return self.address("model", session.model.name), self.address("data", session.data.name)

    def from_link(self, kind: Kind, name: str, recipe: str, session: Session | None) -> Source:
        """Return the source a link names: a known name, or a path that may be opened here.

        Raises ``LinkError``, which carries ``recipe`` on, for what this page does not have.
        """
        if not name or name in known_names(kind) or (kind == "data" and base_of(name)):
            return self.find(kind, name or DEFAULTS[kind], session)
        for (where, known), source in list(self._sources.items()):
            if where == kind and source.address == name:
                return self.find(kind, known, session)
        if name.startswith(FILE):
            raise LinkError(
                f"This link is for the {_NOUNS[kind]} '{name.removeprefix(FILE)[:100]}', which was opened from a file "
                "and is not here: open that file, then apply the recipe.",
                recipe,
            )
        if not name.startswith(("/", "~")) and ":\\" not in name[:4]:
            raise LinkError(f"This link is for the {_NOUNS[kind]} '{name[:100]}', which is not known here.", recipe)
        try:
            return Source.at(check_path(name))
        except WorkbenchError as error:
            raise LinkError(f"This link cannot be opened. {error}", recipe) from error


def known_names(kind: Kind, shape: tuple[int, ...] | None = None) -> list[str]:
    """Return the zoo's models that can be loaded here, or the data sets of the catalog.

    With ``shape``, only data sets whose images have it.
    """
    if kind == "model":
        return list(_zoo())
    from workbench.data.catalog import available_datasets

    return [entry.name for entry in available_datasets() if shape is None or entry.image_shape == tuple(shape)]


@cache
def _zoo() -> tuple[str, ...]:
    """The zoo's names; every checkpoint is verified, which is done once."""
    from workbench.models.load import available_models

    return tuple(entry["name"] for entry in available_models() if not entry["problem"])


def default_model(names: list[str]) -> str:
    """Return the model a page opens on: ResNet-20, or the first there is."""
    return DEFAULTS["model"] if DEFAULTS["model"] in names or not names else names[0]


def _source_of(kind: Kind, loaded: Any) -> Source:
    """Return the source of what a Session was given: its name where that is enough to find it again."""
    if kind == "data":
        named = loaded.name in known_names("data") or bool(base_of(loaded.name))
    else:
        named = loaded.origin == "zoo"
    return Source.named(loaded.name) if named else Source.of(loaded)


def _parts(session: Session) -> tuple[tuple[Kind, Any], tuple[Kind, Any]]:
    return ("model", session.model), ("data", session.data)
