"""Test images whose answer changed, and an image of one's own, as both models answer them.

Pictures are pulled: the page is sent which images to show, and asks for the small pictures it does not
have yet. So each is sent once to a page, whatever is shown, and a reloaded page gets what it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import traitlets

from workbench.errors import WorkbenchError

from ..base import plots
from ..base.errands import Errands
from ..base.view import View, script, style
from ..base.words import in_words
from .figure import draw_examples
from .flipped import Arrangement, SettledAnswers, Shown
from .own_image import Incoming, read_picture
from .pixels import LARGE, Palette, Pixels, encoder

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase
    from torch import Tensor

    from workbench.session import Session
    from workbench.snapshot import Snapshot

#: How many flipped images a strip and a whole view show, at most.
STRIP, WHOLE = 12, 48
#: Small pictures a page may ask for at once.
ASKED = 64
#: How many answers are shown of each model.
TOP = 3


class ExamplesView(View):
    """Flipped images; with ``strip`` as one slim row, without it with filters, details and an own image.

    ``flips`` has one float32 row for each image: its number, label, the dense answer and its confidence,
    the compressed answer and its confidence, and whether it is new.
    """

    _esm = script("examples/images.js", "examples/parts.js", "examples/own_image.js", "examples/examples.js")
    _css = style("examples/examples.css")
    figure_size: ClassVar[tuple[float, float]] = (plots.DOUBLE, 2.8)

    strip = traitlets.Bool(False).tag(sync=True)
    classes: traitlets.List[str] = traitlets.List().tag(sync=True)
    shape: traitlets.List[int] = traitlets.List().tag(sync=True)
    pool = traitlets.Unicode("").tag(sync=True)
    flips = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    about = traitlets.Dict().tag(sync=True)

    detail = traitlets.Dict().tag(sync=True)
    detail_pixels = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    own = traitlets.Dict().tag(sync=True)
    own_pixels = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    own_serial = traitlets.Int(0).tag(sync=True)
    invert = traitlets.Bool(False).tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._errands = Errands("workbench-answers")
        self._incoming: Incoming | None = None
        self._own: tuple[str, Pixels] | None = None
        self._looked_at: int | None = None
        super().__init__(session, **traits)
        self.observe(lambda _: self._answer_own(), "invert")

    def begin(self, session: Session) -> None:
        """Forget the images of the data set before."""
        self._palette = Palette(session.split)
        self._arrangement = Arrangement(STRIP if self.strip else WHOLE)
        self._settled = SettledAnswers(session)
        self._own = self._looked_at = self._incoming = None
        self.classes = [str(name) for name in session.data.classes]
        self.shape = list(self._palette.shape)
        self.pool = session.place.data_hash
        self.flips = self.detail_pixels = self.own_pixels = b""
        self.about, self.detail, self.own, self.problem = {}, {}, {}, ""

    def draw(self, snapshot: Snapshot) -> None:
        """Show which images are flipped; when the recipe has settled, answer anew what is looked at."""
        arrangement, settled = self._arrangement, self._settled
        if snapshot.settled and not snapshot.error:
            settled.settle(snapshot.recipe)
            encoder()  # while nobody waits: else the first images that flip would
        shown = arrangement.follow(snapshot, settled.before(snapshot.recipe_hash))
        if shown is None:
            return
        about = self._facts(snapshot, settled)
        with self.publishing():
            if arrangement is self._arrangement:
                self.flips, self.about = _pack(shown), about
        if snapshot.settled:
            self._answer_own()
            self._answer_detail()

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Send pictures, look closely at an image, or take one of the person's own."""
        if self.session is None:
            return
        wish = content.get("do")
        try:
            if wish == "images":
                self._send_pictures([int(image) for image in content["images"]][:ASKED])
            elif wish == "look":
                self._look(content.get("image"))
            elif wish == "draw":
                self._take_drawing(buffers)
            elif wish == "upload":
                self._take_piece(content, buffers)
        except WorkbenchError as error:
            self._say(str(error))

    def plot(self, area: FigureBase) -> None:
        """Draw the flipped images with both answers."""
        if self.session is None:
            raise WorkbenchError("There is nothing to draw yet: no model is loaded.")
        snapshot = self.session.snapshot
        images = self.session.split.images
        pictures = [self._palette.picture(images[flip.image], LARGE) for flip in snapshot.flips]
        draw_examples(area, list(zip(snapshot.flips, pictures, strict=True)), self.session.data.classes)

    def _facts(self, snapshot: Snapshot, settled: SettledAnswers) -> dict[str, Any]:
        counts = settled.counts(snapshot.recipe_hash) if snapshot.settled else None
        agreement = snapshot.agreement
        return {
            "recipe": snapshot.recipe_hash,
            "settled": snapshot.settled,
            "labelled": self._session_split.labelled,
            "n": agreement.n if agreement else 0,
            "total": len(self._session_split),
            "changed": round(1 - agreement.value, 5) if agreement else None,
            "counts": [counts.lost, counts.won, counts.other] if counts else None,
        }

    @property
    def _session_split(self) -> Any:
        assert self.session is not None
        return self.session.split

    # Pictures

    def _send_pictures(self, images: list[int]) -> None:
        images = [image for image in dict.fromkeys(images) if 0 <= image < len(self._session_split)]
        if not images:
            return
        sheet, (height, width) = self._palette.sheet(images)
        with self._lock:
            content = {"do": "images", "pool": self.pool, "images": images, "height": height, "width": width}
            self.send(content, [sheet])

    # A test image looked at closely

    def _look(self, image: Any) -> None:
        split = self._session_split
        chosen = int(image) if image is not None and 0 <= int(image) < len(split) else None
        self._looked_at = chosen
        if chosen is None:
            return
        pixels = self._palette.picture(split.images[chosen], LARGE)
        with self.publishing():
            self.detail = {"image": chosen, "label": int(split.labels[chosen]), "size": list(pixels.shape)}
            self.detail_pixels = pixels.tobytes()
        self._answer_detail()

    def _answer_detail(self) -> None:
        def work() -> None:
            chosen, session = self._looked_at, self.session
            if chosen is None or session is None:
                return
            answers = self._answers(session, session.split.images[chosen])
            with self.publishing():
                if chosen == self._looked_at and self.detail.get("image") == chosen:
                    self.detail = {**self.detail, **answers}

        if self._looked_at is not None:
            self._errands.run("detail", work)

    # An image of one's own

    def _take_drawing(self, buffers: list[Any]) -> None:
        channels, height, width = self._palette.shape
        values = np.frombuffer(bytes(buffers[0]), np.uint8) if buffers else np.empty(0, np.uint8)
        if values.size != height * width * (3 if channels == 3 else 1):
            raise WorkbenchError("The drawing does not have the size the model takes; clear it and draw again.")
        if not values.any():
            self._own = None
            with self.publishing():
                self.own, self.problem = {}, ""
            return
        self._own = "drawing", values.reshape(height, width, -1)
        self._answer_own()

    def _take_piece(self, content: dict[str, Any], buffers: list[Any]) -> None:
        at = int(content["at"])
        if at == 0:
            self._incoming = Incoming(str(content.get("name", "")), int(content["size"]))
        incoming = self._incoming
        if incoming is None:
            return
        try:
            complete = incoming.add(bytes(buffers[0]) if buffers else b"", at)
        except WorkbenchError:
            self._incoming = None
            raise
        if complete:
            self._incoming = None
            self._errands.run("upload", lambda: self._read(incoming))

    def _read(self, incoming: Incoming) -> None:
        palette = self._palette
        try:
            pixels = read_picture(incoming.name, incoming.content, palette.shape)
        except WorkbenchError as error:
            self._say(str(error))
            return
        with self.publishing():
            if palette is not self._palette:
                return
            self._own = incoming.name, pixels
            self.own_pixels = pixels.tobytes()
            self.own_serial += 1  # the same file chosen twice is drawn twice
            self.problem = ""
        self._answer_own()

    def _answer_own(self) -> None:
        def work() -> None:
            own, session = self._own, self.session
            if own is None or session is None:
                return
            name, pixels = own
            answers = self._answers(session, self._palette.image(255 - pixels if self.invert else pixels))
            with self.publishing():
                if own is self._own:
                    self.own = {"name": name, **answers}

        if self._own is not None:
            self._errands.run("own", work)

    def _answers(self, session: Session, image: Tensor) -> dict[str, Any]:
        recipe = session.recipe
        try:
            dense, compressed = session.answer(image)
        except Exception as error:  # a recipe that cannot be carried out, a model that chokes
            self._say(str(error) if isinstance(error, WorkbenchError) else f"The image cannot be answered: {error}")
            return {}
        return {"dense": _top(dense), "compressed": _top(compressed), "recipe": in_words(recipe.to_data())}

    def _say(self, problem: str) -> None:
        with self.publishing():
            self.problem = problem


def _top(shares: np.ndarray[Any, Any]) -> list[list[float]]:
    order = np.argsort(-np.nan_to_num(shares), kind="stable")[:TOP]
    return [[int(index), round(float(np.nan_to_num(shares[index])), 4)] for index in order]


def _pack(shown: tuple[Shown, ...]) -> bytes:
    rows = [
        (f.image, f.label, f.before, f.before_confidence, f.after, f.after_confidence, one.new)
        for one in shown
        for f in (one.flip,)
    ]
    return np.asarray(rows, np.float32).reshape(-1, 7).tobytes()
