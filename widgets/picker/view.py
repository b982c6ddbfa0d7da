"""Model and dataset: what to choose from, what was loaded, and why it could not be.

What can be loaded but does not fit its partner is kept as ``pending`` until the partner comes; the Session
that is shown stays meanwhile. The page's address follows what is shown: the page sends the fragment it was
opened with, and only when that has been answered does it write the address itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError

from ..base.marks import marks_of
from ..base.view import View, script, style
from ..recipe.link import LinkError, read_link, write_link
from ..recipe.view import read_recipe
from .designing import Designer, bases
from .facts import describe_data, describe_model
from .loading import Loader, Outcome, Wish, remark_on
from .made import base_of, made_names
from .making import Making, offers, teaching_by, told, transfer_onto
from .opening import SUFFIXES, Kind, Misfit, Packed, Source
from .sources import DEFAULTS, Sources, known_names
from .upload import Uploads, check_path, folders

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

KINDS: tuple[Kind, ...] = ("model", "data")


class PickerView(View):
    """Loads models and data sets away from the comm's thread and opens a Session on them.

    ``loaded`` is called with each new Session on the loading thread; ``unread`` with a recipe's text that
    came with a link or a file and could not be applied.
    """

    #: The address follows a recipe once a hand rests on the slider.
    patience = 0.15
    _esm = script("base/files.js", "picker/opener.js", "recipe/address.js", "picker/designer.js", "picker/picker.js")
    _css = style("picker/picker.css")

    models: traitlets.List[str] = traitlets.List().tag(sync=True)
    datasets: traitlets.List[str] = traitlets.List().tag(sync=True)
    chosen = traitlets.Dict({"model": "", "data": ""}).tag(sync=True)
    model_facts = traitlets.Unicode("").tag(sync=True)
    data_facts = traitlets.Unicode("").tag(sync=True)
    pending = traitlets.Dict().tag(sync=True)
    making = traitlets.Dict().tag(sync=True)
    design = traitlets.Dict().tag(sync=True)
    designs: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    can = traitlets.Dict({"undo": False, "redo": False}).tag(sync=True)
    address = traitlets.Dict({"fragment": "", "answered": 0}).tag(sync=True)
    opens = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        session: Session | None = None,
        loaded: Callable[[Session], None] | None = None,
        unread: Callable[[str], None] | None = None,
        **traits: Any,
    ) -> None:
        self._loaded, self._unread = loaded, unread
        self._loader = Loader(self._original, self._begun, self._arrived, self._dropped)
        self._uploads = Uploads()
        self._sources = Sources()
        self._waiting: tuple[Kind, Source, str] | None = None
        self._misfit: Misfit | None = None
        self._making = Making(self._told_making, self._made_model, self._not_made)
        self._designer = Designer(self._told_design)
        self._remark = ""
        self._closed, self._arriving = False, threading.Lock()
        super().__init__(session, **traits)
        self.opens = {"suffixes": {kind: list(found) for kind, found in SUFFIXES.items()}, "paths": _paths()}

    def begin(self, session: Session) -> None:
        """Say what this Session stands on."""
        self._sources.note(session)
        self._list(session)
        self.model_facts = describe_model(session, remark=self._remark)
        self.data_facts = describe_data(session)

    def mark(self, marks: Marks) -> None:
        """Keep the locked layers in the address."""
        if self.session is not None:
            self._set_address(self.session)

    def draw(self, snapshot: Snapshot) -> None:
        """Show whether there is something to undo, the dense model's accuracy, and the page's address."""
        session = self.session
        if session is not None:
            with self.publishing():
                self.can = {"undo": bool(session.can_undo), "redo": bool(session.can_redo)}
                self.model_facts = describe_model(session, snapshot, self._remark)
                self._set_address(session)

    def choose(self, model: str, data: str) -> threading.Thread:
        """Load ``model`` and ``data``, by their names in the lists, and open a Session on them."""
        return self._loader.follow(Wish(self._find("model", model), self._find("data", data)))

    def open_part(self, kind: Kind, source: Source, ticket: int = 0) -> threading.Thread:
        """Open ``source`` beside what is shown, is being loaded, or waits for it.

        The recipe stays where the model does. ``ticket`` is the page's number for this wish.
        """
        session, waits, wished = self.session, self._waiting, self._loader.wished
        other: Kind = "data" if kind == "model" else "model"
        recipe, locked = "", tuple[str, ...]()
        if waits is not None and waits[0] == other:
            partner, recipe = waits[1], waits[2]
        elif wished is not None:
            partner = wished.model if other == "model" else wished.data
            recipe, locked = (wished.recipe, wished.locked) if other == "model" else (recipe, locked)
        else:
            partner = self._find(other, getattr(session, other).name if session is not None else "")
            if kind == "data" and session is not None and session.recipe:
                recipe, locked = session.recipe.to_yaml(), tuple(marks_of(session).locked)
        model, data = (source, partner) if kind == "model" else (partner, source)
        return self._loader.follow(Wish(model, data, recipe, locked, ticket))

    def follow(self, fragment: str, number: int = 0) -> threading.Thread | None:
        """Open what a link says. Where it cannot be, that is told, and its recipe's text handed on."""
        try:
            link = read_link(fragment)
            if not link:
                self._answer(number)
                return None
            model = self._sources.from_link("model", link.model, link.recipe, self.session)
            data = self._sources.from_link("data", link.data, link.recipe, self.session)
        except LinkError as error:
            self._tell(str(error))
            self._hand_on(error.recipe, str(error))
            self._answer(number)
            return None
        wish = Wish(model, data, link.recipe, link.locked, link=number)
        session = self.session
        shown = session is not None and self._sources.addresses(session) == (model.address, data.address)
        if session is None or not shown or self._loader.busy:
            return self._loader.follow(wish)
        self._tell("")
        self._put_on(session, wish)
        self._answer(number)
        return None

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Choose, open, upload; follow a link; undo and redo."""
        what, kind = content.get("do"), content.get("kind")
        if what == "choose" and kind in KINDS:
            self.open_part(kind, self._find(kind, str(content.get("name"))))
        elif what == "path" and kind in KINDS:
            self._open_path(kind, str(content.get("path")), int(content.get("ticket", 0)))
        elif what in ("upload", "piece", "uploaded", "cancel"):
            self._upload(str(what), content, buffers)
        elif what == "dismiss":
            self._tell("")
        elif what in ("discard", "transfer", "stop", "figures", "teach"):
            self._make(what, content)
        elif what == "link":
            self.follow(str(content.get("fragment")), int(content.get("number", 0)))
        elif what == "undo" and self.session is not None and self.session.can_undo:
            self.session.undo()
        elif what == "redo" and self.session is not None and self.session.can_redo:
            self.session.redo()

    def close(self) -> None:
        """Leave the page, and delete what it uploaded; what is being loaded is closed when it comes."""
        with self._arriving:
            self._closed = True
        super().close()
        self._making.cancel()
        self._uploads.close()

    # Making models ------------------------------------------------------------------------------------

    def start_transfer(self) -> threading.Thread | None:
        """Train the model that does not fit the data on them, with a new last layer, and open both."""
        return None if self._misfit is None else self._making.start(transfer_onto(self._misfit))

    def start_teaching(self, wish: dict[str, Any]) -> threading.Thread | None:
        """Have the session's model teach the designed student, and open what comes of it."""
        return None if self.session is None else self._making.start(teaching_by(self.session, wish))

    def _make(self, what: str, content: dict[str, Any]) -> None:
        """Do what was asked for with what waits for its partner, or with a design."""
        self._tell("")
        if what == "transfer":
            self.start_transfer()
        elif what == "teach":
            self.start_teaching(content)
        elif what == "figures" and self.session is not None:
            self._designer.ask(self.session, content)
        elif what in ("discard", "stop"):
            self._making.cancel()
            if what == "discard":
                self._wait_for(None)

    def _told_making(self, told: dict[str, Any]) -> None:
        with self.publishing():
            self.making = told

    def _told_design(self, told: dict[str, Any]) -> None:
        with self.publishing():
            self.design = told

    def _not_made(self, problem: str) -> None:
        with self.publishing():
            self.making, self.error = {}, problem

    def _made_model(self, path: Path) -> None:
        """Open what was made, beside its data."""
        waits = self._waiting
        with self.publishing():
            self.making = {}
        if waits is not None and waits[0] == "model":
            self._wait_for(None)
        self.open_part("model", Source.at(path))

    # What the loader tells, on its thread -------------------------------------------------------------

    def _begun(self, wish: Wish | None) -> None:
        with self.publishing():
            if wish is None:
                self.status = ""
                return
            model, data = wish.model.name or DEFAULTS["model"], wish.data.name or DEFAULTS["data"]
            made = ", making images, which may take minutes" if base_of(data) else ""
            self.status, self.error = f"Loading {model} and {data}{made}", ""
            if not wish.ticket:
                self.chosen = {"model": wish.model.name, "data": wish.data.name}

    def _arrived(self, outcome: Outcome) -> None:
        with self._arriving:  # a page is not closed while it takes a Session on
            if not self._closed:
                self._take(outcome)
            elif outcome.session is not None:
                outcome.session.close()

    def _take(self, outcome: Outcome) -> None:
        session, wish = outcome.session, outcome.wish
        if session is None:
            self._failed(outcome)
            return
        self._sources.remember("model", session.model.name, outcome.model)
        self._sources.remember("data", session.data.name, wish.data)
        if self._waiting is not None and self._waiting[1] in (wish.model, wish.data):
            self._wait_for(None)
        self._put_on(session, wish)
        self._remark = remark_on(session, wish)
        self.attach(session)
        if self._loaded is not None:
            self._loaded(session)
        self._done(wish)

    def _failed(self, outcome: Outcome) -> None:
        wish, session = outcome.wish, self.session
        if outcome.misfit is not None and session is not None and self._without_waiting(wish, session):
            return
        if outcome.misfit is not None and session is not None and self._waiting is None and not wish.link:
            self._misfit = outcome.misfit if offers(outcome.misfit) else None
            if wish.model.given is session.model:
                self._wait_for(("data", replace(wish.data, name=outcome.misfit.data.name), ""), outcome.problem)
            else:
                model = replace(outcome.model, name=outcome.misfit.model.name, given=outcome.misfit.model)
                self._wait_for(("model", model, wish.recipe), outcome.problem)
            self._done(wish)
            return
        if session is not None:
            with self.publishing():
                self._list(session)
        if not wish.ticket:
            self._tell(outcome.problem)
        if wish.model.is_packed or wish.link:
            self._hand_on(wish.recipe, outcome.problem)
        self._done(wish, outcome.problem)

    def _without_waiting(self, wish: Wish, session: Session) -> bool:
        """Open what does not fit what waits beside what is shown instead; return whether that is possible."""
        if self._waiting is None or self._waiting[1] not in (wish.model, wish.data):
            return False
        kind = self._waiting[0]
        shown = self._find(kind, getattr(session, kind).name)
        self._loader.follow(replace(wish, model=shown) if kind == "model" else replace(wish, data=shown))
        return True

    def _dropped(self, wish: Wish) -> None:
        self._done(wish)

    def _original(self, packed: Packed) -> Source:
        """Return the model a packed file was made from: one of the zoo, or the one that is shown."""
        shown = self.session is not None and self.session.model.name == packed.name
        if packed.origin == "zoo" or shown:
            return self._find("model", packed.name)
        raise WorkbenchError(
            f"This file holds the compressed weights of {packed.name} ({packed.architecture}), which is not in the "
            "zoo: open the original model, then this file again."
        )

    # Opening ------------------------------------------------------------------------------------------

    def _find(self, kind: Kind, name: str) -> Source:
        return self._sources.find(kind, name, self.session)

    def _put_on(self, session: Session, wish: Wish) -> None:
        """Lock the wish's layers and apply its recipe; one that does not fit is handed on as text."""
        marks = marks_of(session)
        marks.lock(set(marks.locked), locked=False)
        marks.lock(set(wish.locked) & {layer.name for layer in session.layers})
        if not wish.recipe and not wish.link:
            return
        try:
            recipe = read_recipe(wish.recipe, session)
        except WorkbenchError as error:
            self._hand_on(wish.recipe, str(error))
            return
        marks.change(session, lambda _: recipe, whole=True)

    def _open_path(self, kind: Kind, text: str, ticket: int) -> None:
        try:
            self.open_part(kind, Source.at(check_path(text)), ticket)
        except WorkbenchError as error:
            self.send({"opened": ticket, "problem": str(error)})

    def _upload(self, what: str, content: dict[str, Any], buffers: list[Any]) -> None:
        """Take one message of an upload; all but a cancel are answered."""
        ticket = int(content.get("ticket", 0))
        try:
            arrived = self._uploads.take(what, str(ticket), content, buffers)
            if isinstance(arrived, Path):
                kind: Kind = "model" if content.get("kind") == "model" else "data"
                self.open_part(kind, Source.at(arrived, uploaded=True), ticket)
            elif what != "cancel":
                self.send({"received": ticket, "bytes": arrived})
        except WorkbenchError as error:
            self.send({"opened": ticket, "problem": str(error)})

    def _wait_for(self, waiting: tuple[Kind, Source, str] | None, why: str = "") -> None:
        """Keep what was loaded until its partner is; None gives it up."""
        self._waiting = waiting
        self._misfit = self._misfit if waiting else None
        with self.publishing():
            self.pending = (
                {"kind": waiting[0], "name": waiting[1].name, "why": why, "transfers": told(self._misfit)}
                if waiting else {}
            )  # fmt: skip
            if self.session is not None:
                self._list(self.session)

    def _done(self, wish: Wish, problem: str = "") -> None:
        """Tell the dialog, and the page whose link it was, that this is over."""
        if wish.ticket:
            self.send({"opened": wish.ticket, "problem": problem})
        self._answer(wish.link)

    def _list(self, session: Session) -> None:
        """Set what can be chosen and what is; data sets are those whose images fit the model."""
        waits = self._waiting
        shape = waits[1].given.input_shape if waits and waits[0] == "model" else session.model.input_shape
        self.models = _with(self.models or known_names("model"), [session.model.name])
        self.datasets = _with(known_names("data", shape), [*self._sources.opened("data"), *self._made(session)])
        self.chosen = {"model": session.model.name, "data": session.data.name}
        self.designs = bases(session)

    def _made(self, session: Session) -> list[str]:
        """Return the data set that is shown, and those with made images beside it, where its model is shown too."""
        name = session.data.name
        return [name] if self._waiting else _with([base_of(name) or name], [*made_names(name, session.model), name])

    # The address and the editor -----------------------------------------------------------------------

    def _set_address(self, session: Session) -> None:
        """Publish the fragment that brings back what is shown; none for a page as it opens."""
        names = self._sources.addresses(session)
        steps, locked = session.recipe.to_data(), tuple(sorted(marks_of(session).locked))
        plain = names == (DEFAULTS["model"], DEFAULTS["data"]) and not steps and not locked
        fragment = "" if plain else write_link(*names, steps, locked)
        if fragment != self.address["fragment"]:
            self.address = {**self.address, "fragment": fragment}

    def _answer(self, number: int) -> None:
        """Tell the page that its link has been followed, or cannot be: from now on it writes its own."""
        if number:
            with self.publishing():
                if self.session is not None:
                    self._set_address(self.session)
                self.address = {**self.address, "answered": number}

    def _tell(self, problem: str) -> None:
        with self.publishing():
            self.error = problem

    def _hand_on(self, recipe: str, problem: str) -> None:
        """Hand on a recipe's text that could not be applied; without an editor, at least say why."""
        if recipe and self._unread is not None:
            self._unread(recipe)
        elif recipe:
            self._tell(problem)


def _paths() -> str:
    """Say which paths may be opened: ``any``, ``none``, or the folders."""
    allowed = folders()
    return "any" if allowed is None else ", ".join(map(str, allowed)) or "none"


def _with(names: list[str], others: list[str]) -> list[str]:
    return list(dict.fromkeys([*names, *others]))
