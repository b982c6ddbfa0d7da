"""The recipe as text: edited and checked in place, as Python, from a file and to a file."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError

from ..base.view import View, script, style
from ..controls.fields import fields_of

if TYPE_CHECKING:
    from workbench.data.dataset import Dataset
    from workbench.models.model import Model
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: The longest text that is read as a recipe, and the most brackets open at once: YAML's reader takes seconds
#: over thousands.
MAX_CHARACTERS = 200_000
MAX_DEPTH = 50


class RecipeView(View):
    """An editor that follows the Session's recipe until the person types; then the text is theirs.

    The page writes ``draft`` (``text``, whether it is being ``edited``, and a running number ``seq``) when
    the typing pauses; ``checked`` answers with the same ``seq`` and the problem, if any. ``applied`` is the
    ``seq`` of the draft that became the recipe last. Text that is not applied stays in ``draft``.
    """

    _esm = script("base/files.js", "recipe/recipe.js")
    _css = style("recipe/recipe.css")

    yaml = traitlets.Unicode("").tag(sync=True)
    python = traitlets.Unicode("").tag(sync=True)
    failure = traitlets.Unicode("").tag(sync=True)
    name = traitlets.Unicode("").tag(sync=True)
    draft = traitlets.Dict({"text": "", "edited": False, "seq": 0}).tag(sync=True, echo_update=False)
    checked = traitlets.Dict({"seq": 0, "problem": ""}).tag(sync=True)
    applied = traitlets.Int(0).tag(sync=True)
    techniques: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._early: dict[str, Any] | None = None  # what was applied before there was a Session
        super().__init__(session, **traits)
        self.observe(self._on_draft, "draft")

    def begin(self, session: Session) -> None:
        """List the techniques; check what is being edited against the layers of this model."""
        self.techniques = describe_techniques()
        self.name = session.model.name
        self.python = ""  # of the model and the data before
        self._check(self.draft)
        early, self._early = self._early, None
        if early is not None:
            self.receive(early, [])

    def draw(self, snapshot: Snapshot) -> None:
        """Show this Recipe, in YAML and in Python, and why it could not be carried out."""
        session = self.session
        if session is None:
            return
        text = snapshot.recipe.to_yaml() if snapshot.recipe else ""
        with self.publishing():
            if text != self.yaml or not self.python:
                self.yaml = text
                self.python = python_of(session.model, session.data, text)
            self.failure = snapshot.error or ""

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Make the text the Session's recipe, if it is one."""
        if content.get("do") != "apply":
            return
        if self.session is None:
            self._early = content
        else:
            text, seq = str(content.get("text")), int(content.get("seq") or 0)
            problem = self.apply(text)
            with self.publishing():
                self.checked = {"seq": seq, "problem": problem}
                # what is refused is kept too: the page sends what is typed when typing pauses, and here it did not
                self.draft = {"text": text, "edited": bool(problem), "seq": seq}
                if not problem:
                    self.applied = seq

    def apply(self, text: str) -> str:
        """Make ``text`` the Session's recipe; return the sentence that says why it could not be, or ""."""
        assert self.session is not None
        try:
            recipe = read_recipe(text, self.session)
            self.change(lambda _: recipe, whole=True)
        except WorkbenchError as error:
            return str(error)
        return ""

    def keep(self, text: str) -> None:
        """Put text that came from elsewhere and could not be applied into the editor, where it is checked."""
        with self.publishing():
            seq = int(str(self.draft.get("seq", 0))) + 1
            self.draft = {"text": text, "edited": True, "seq": seq}

    def _on_draft(self, change: dict[str, Any]) -> None:
        self._check(change["new"])

    def _check(self, draft: dict[str, Any]) -> None:
        if not draft.get("edited") or self.session is None:
            return
        problem = ""
        try:
            read_recipe(str(draft.get("text", "")), self.session)
        except WorkbenchError as error:
            problem = str(error)
        self.checked = {"seq": draft.get("seq", 0), "problem": problem}


def read_recipe(text: str, session: Session) -> Recipe:
    """Return the recipe in ``text``, whose patterns all match layers of the session's model.

    Raises ``WorkbenchError`` with one sentence.
    """
    from workbench.recipe import Recipe, RecipeError

    if len(text) > MAX_CHARACTERS:
        raise RecipeError(f"A recipe has {MAX_CHARACTERS:,} characters at most, and this text has {len(text):,}.")
    try:
        if _depth(text) > MAX_DEPTH:
            raise RecursionError
        recipe = Recipe.parse(text)
        names = [layer.name for layer in session.layers]
        for step in recipe.steps:
            step.resolve(names)
    except WorkbenchError:
        raise
    except (RecursionError, TypeError, ValueError) as error:  # YAML nested without end, or odd keys in it
        raise RecipeError("This is no recipe, which is a list of steps such as '- prune: {ratio: 0.5}'.") from error
    return recipe


def _depth(text: str) -> int:
    """Return how many brackets are open at once, at most; those in quotes count too."""
    steps = (1 if letter in "[{" else -1 for letter in text if letter in "[]{}")
    return max(accumulate(steps), default=0)


def describe_techniques() -> list[dict[str, Any]]:
    """Return every technique with its settings, as the reference shows them."""
    from workbench.techniques import TECHNIQUES

    return [
        {
            "name": technique.name,
            "summary": technique.summary,
            "source": technique.source,
            "settings": [{**field, "allowed": _allowed(field)} for field in fields_of(technique)],
            "examples": list(technique.examples),
        }
        for technique in TECHNIQUES.values()
    ]


def python_of(model: Model, data: Dataset, recipe: str) -> str:
    """Return a script that does with the library what the page shows; ``recipe`` is YAML."""
    network, note = _model_source(model)
    images, other = _data_source(data)
    steps = f'"""\n{recipe.rstrip()}\n"""' if recipe else '"[]"'
    return "\n".join([
        "import workbench as wb",
        "",
        f"model = wb.load_model({network!r}){note}",
        f"data = wb.load_dataset({images!r}){other}",
        f"recipe = wb.Recipe.parse({steps})",
        "",
        "compressed = wb.compress(model, recipe, data)",
        f"compressed.save({model.name + '.wbz'!r})",
        "",
        "with wb.Session(model, data) as session:",
        "    snapshot = session.measure(recipe)",
        'print(f"{snapshot.accuracy.value:.2%} of {snapshot.accuracy.n:,} images, {compressed.nbytes:,} bytes")',
        "",
    ])  # fmt: skip


def _model_source(model: Model) -> tuple[str, str]:
    if model.origin == "zoo":
        return model.name, ""
    if model.origin in ("torchvision", "timm"):
        return f"{model.origin}:{model.name}", ""
    if model.origin in ("file", "onnx"):
        name = model.name + (".onnx" if model.origin == "onnx" else ".safetensors")
        return name, "  # the file it was opened from"
    return model.name, "  # your own nn.Module goes here"


def _data_source(data: Dataset) -> tuple[str, str]:
    from workbench.data.catalog import available_datasets

    if any(entry.name == data.name for entry in available_datasets()):
        return data.name, ""
    return data.name, "  # the file or folder it was opened from"


def _allowed(field: dict[str, Any]) -> str:
    """Say in a few words what a setting may be."""
    if field["kind"] == "choice":
        return " or ".join("null" if option is None else str(option) for option in field["options"])
    if field["kind"] == "flag":
        return "true or false"
    low, high = field["min"], field["max"]
    above, below = ("min" in field["excluded"], "max" in field["excluded"])
    least = f"above {low}" if above else f"from {low}" if high is None else f"{low}"
    span = least if high is None else f"{least} {'and below' if below else 'to'} {high}"
    return f"{span}{' or null' if field['optional'] else ''}"
