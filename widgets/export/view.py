"""What can be taken away: the packed file, the ONNX file and the recipe, each with its exact size."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from workbench.errors import WorkbenchError
from workbench.jobs import Job

from ..base.view import View, script, style
from .download import Downloads
from .runtimes import list_formats, make

if TYPE_CHECKING:
    from workbench.compressed import CompressedModel
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Snapshot

Kind = Literal["packed", "onnx", "recipe"]
SUFFIXES: dict[Kind, str] = {"packed": ".wbz", "onnx": ".onnx", "recipe": ".yaml"}
#: Set in the kernels of the served app, whose pages may not write to the server's disk.
SERVED = "WORKBENCH_SERVED"
_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class ExportView(View):
    """Lists the files of the present recipe; makes them away from the comm's thread and sends them.

    A file belongs to the recipe it was begun for, and its name carries that recipe's hash.
    """

    _esm = script("base/files.js", "export/runtimes.js", "export/export.js")
    _css = style("export/export.css")

    files: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    formats: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    parts: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    layers: traitlets.List[list[Any]] = traitlets.List().tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    can_save = traitlets.Bool(False).tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._drawn: tuple[int, bool] | None = None
        self._made: tuple[str, bytes] | None = None
        self._making: Job[None] | None = None
        self._downloads = Downloads(self.send)
        super().__init__(session, can_save=not os.environ.get(SERVED), **traits)

    def begin(self, session: Session) -> None:
        """Forget the files of the Session before."""
        self._drawn = self._made = None

    def draw(self, snapshot: Snapshot) -> None:
        """List the files of this Recipe as soon as its size is known; layer by layer once it has settled."""
        session, key = self.session, (snapshot.generation, snapshot.settled)
        if session is None or key == self._drawn:
            return
        if snapshot.error or snapshot.size is None:
            with self.publishing():
                self.problem = snapshot.error or ""
            return
        self._drawn = key
        compressed = session.compress(snapshot.recipe)
        with self.publishing():
            self.problem = ""
            self.formats = self.formats or list_formats()
            self.files = self._list(session, snapshot, compressed)
            self.parts = parts_of(compressed)
            if snapshot.settled:
                self.layers = layers_of(session, compressed)
        if snapshot.settled and any(not file["exact"] for file in self.files):
            self._measure_onnx(session, snapshot)

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Send or save a file; note what the page has of one."""
        what, ticket = content.get("do"), int(content.get("ticket", 0))
        if what in ("download", "save") and content.get("kind") in SUFFIXES and self.session is not None:
            kind: Kind = content["kind"]
            name, make_bytes = self._maker(self.session, kind)
            if what == "download":
                self._downloads.start(ticket, lambda: (name, make_bytes()))
            else:
                self.save_as(str(content.get("path", "")), name, make_bytes, ticket)
        elif what == "make" and self.session is not None:
            self._downloads.start(ticket, self._made_for(self.session, str(content.get("format")), ticket))
        elif what == "answer":
            self._downloads.answer(ticket, int(content.get("pieces", 0)))
        elif what == "cancel":
            self._downloads.cancel(ticket)

    def save_as(self, path: str, name: str, make: Callable[[], bytes], ticket: int = 0) -> Job[None]:
        """Write a file on the kernel's machine, on a thread; the page hears where, or why not."""

        def work(_: Job[None]) -> None:
            try:
                if os.environ.get(SERVED):
                    raise WorkbenchError("This page may not write to the server's disk: download the file.")
                target, size = write_file(path, name, make())
                self.send({"saved": ticket, "path": str(target), "bytes": size, "problem": ""})
            except WorkbenchError as error:
                self.send({"saved": ticket, "problem": str(error)})

        return Job("save", work)

    def close(self) -> None:
        """Leave the page; what is being sent ends."""
        super().close()
        self._downloads.close()

    def _list(self, session: Session, snapshot: Snapshot, compressed: CompressedModel) -> list[dict[str, Any]]:
        from workbench.deploy.normalizing import note_bytes
        from workbench.int8 import runs_int8

        assert snapshot.size is not None
        int8 = runs_int8(compressed)
        made = self._made if self._made and self._made[0] == compressed.recipe.hash else None
        onnx = len(made[1]) if made else snapshot.size.runtime_bytes
        if onnx is not None and not made:
            onnx += len(note_bytes(session.normalization))
        text = compressed.recipe.to_yaml()

        def entry(kind: Kind, size: int | None, about: str, exact: bool = True) -> dict[str, Any]:
            name = file_name(session.model.name, compressed.recipe, kind)
            return {"kind": kind, "name": name, "bytes": size, "exact": exact, "about": about}

        return [
            entry("packed", compressed.nbytes, "Every tensor in its smallest encoding, the recipe with it; no code."),
            entry("onnx", onnx, about_onnx(compressed, int8, onnx), exact=onnx is None or not int8 or made is not None),
            entry("recipe", len(text.encode()), "The steps as YAML, for this page and the command line's --recipe."),
        ]

    def _maker(self, session: Session, kind: Kind) -> tuple[str, Callable[[], bytes]]:
        """Return the name of the present recipe's file, and what makes its bytes."""
        recipe = session.recipe
        name = file_name(session.model.name, recipe, kind)

        def make() -> bytes:
            if kind == "recipe":
                return recipe.to_yaml().encode()
            if kind == "onnx":
                return self._onnx(session, recipe)
            return session.compress(recipe).archive.to_bytes()

        return name, make

    def _onnx(self, session: Session, recipe: Recipe) -> bytes:
        from workbench.deploy.normalizing import note_bytes

        made = self._made
        if made is None or made[0] != recipe.hash or session is not self.session:
            made = recipe.hash, session.onnx_file(recipe) + note_bytes(session.normalization)
            if session is self.session:
                self._made = made
        return made[1]

    def _made_for(self, session: Session, format: str, ticket: int) -> Callable[[], tuple[str, bytes]]:
        """Return what writes the present recipe in ``format``, tries it, says what came out, gives name and bytes."""
        recipe, told = session.recipe, ""

        def tell(what: str, share: float) -> None:
            nonlocal told
            self._downloads.check(ticket)
            if what != told:
                told = what
                self.send({"made": ticket, "doing": what.capitalize()})

        def work() -> tuple[str, bytes]:
            made = make(session, recipe, format, tell)
            self.send({"made": ticket, "remarks": list(made.remarks), "verdict": made.verdict})
            return made.name, made.data

        return work

    def _measure_onnx(self, session: Session, snapshot: Snapshot) -> None:
        """Make the int8 file in the background: its size is only known when it is there."""
        if self._making is not None:
            self._making.cancel()

        def work(job: Job[None]) -> None:
            session.give_way(lambda: job.cancelled)
            job.check()
            self._onnx(session, snapshot.recipe)
            job.check()
            if session is self.session and session.recipe == snapshot.recipe:
                with self.publishing():
                    self.files = self._list(session, snapshot, session.compress(snapshot.recipe))

        self._making = Job("export", work)


def file_name(model: str, recipe: Recipe, kind: Kind) -> str:
    """Return ``resnet20-0123abcd.wbz``: the model's name and the first 8 digits of the recipe's hash."""
    stem = re.sub(r"[^\w.-]+", "-", re.sub(r"\.(safetensors|pt|pth|onnx|wbz)$", "", model)).strip("-.") or "model"
    return f"{stem}-{recipe.hash[:8]}{SUFFIXES[kind]}"


def write_file(text: str, name: str, data: bytes) -> tuple[Path, int]:
    """Write ``data`` to the path ``text``, or as ``name`` into the folder it names; all of it or nothing.

    Returns the path and the bytes on disk. Raises ``WorkbenchError`` with one sentence.
    """
    from workbench.encodings.files import write_atomically

    if not text.strip():
        raise WorkbenchError("Type the path of a file or a folder on the kernel's machine.")
    try:
        path = Path(text.strip()).expanduser()
        path = path / name if path.is_dir() else path
        path = path if path.suffix else path.with_name(path.name + Path(name).suffix)
        path = path.absolute()
        if not path.parent.is_dir():
            raise WorkbenchError(f"There is no folder {path.parent}; nothing was written.")
        write_atomically(path, data)
        return path, path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, WorkbenchError):
            raise
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise WorkbenchError(
            f"'{text.strip()}' could not be written: {reason[:1].lower()}{reason[1:]}; nothing was changed there."
        ) from error


def about_onnx(compressed: CompressedModel, int8: bool, size: int | None) -> str:
    """Say what is in the ONNX file, and what ONNX cannot hold."""
    from workbench.deploy.onnx_weights import UNPACKED
    from workbench.int8 import signed_scales

    if size is None:
        return "This model cannot be written as ONNX."
    bits = {layer.bits for layer in compressed.layers}
    zeros = sum(layer.sparsity * layer.params for layer in compressed.layers)
    said = []
    if int8:
        said.append("Weights and activations in 8 bits: it runs on int8 kernels.")
        unlike = sum(signed_scales(codes) is None for codes in compressed.codes.values())
        if unlike:
            said.append(
                f"{unlike} of {len(compressed.codes)} weight tensors are rounded anew, since those kernels want them "
                "around zero; quantize: {scheme: symmetric} keeps the recipe's codes."
            )
    elif min(bits) <= 8:
        kinds = sorted({4 if width <= 4 else 8 for width in bits if width <= 8})
        said.append(
            f"Weights as {' and '.join(f'{kind}-bit' for kind in kinds)} integers: smaller, not faster. {UNPACKED}"
        )
    elif 16 in bits:
        said.append("Weights as 16-bit floats, widened to fp32 when it is loaded: smaller, not faster.")
    else:
        said.append("Weights in fp32.")
    if compressed.grids and not int8:
        said.append("Activations are not rounded in it.")
    if zeros > 0.01 * sum(layer.params for layer in compressed.layers):
        said.append("ONNX stores zeros like other weights.")
    return " ".join(said)


def parts_of(compressed: CompressedModel) -> list[dict[str, Any]]:
    """Return what is inside the packed file, tensors of one kind together, largest first; then the header."""
    archive = compressed.archive
    found: dict[str, list[int]] = {}
    for name, encoding in archive.tensors.items():
        total = found.setdefault(_label(name, encoding.describe(), compressed), [0, 0])
        total[0] += 1
        total[1] += encoding.nbytes
    ordered = sorted(found.items(), key=lambda item: -item[1][1])
    parts = [{"label": label, "tensors": count, "bytes": size} for label, (count, size) in ordered]
    return [*parts, {"label": "header and checksum", "tensors": 0, "bytes": archive.overhead_bytes}]


def layers_of(session: Session, compressed: CompressedModel) -> list[list[Any]]:
    """Return each layer's name, how its weight is stored, its bytes, and its parameters."""
    tensors = compressed.archive.tensors
    rows = []
    for layer, figures in zip(session.layers, compressed.layers, strict=True):
        weight = getattr(layer, "weight", f"{layer.name}.weight")
        label = _label(weight, tensors[weight].describe(), compressed) if weight in tensors else ""
        rows.append([figures.name, label, figures.bytes, figures.params])
    return rows


def _label(name: str, description: Mapping[str, Any], compressed: CompressedModel) -> str:
    """Say in a few words how a tensor is stored."""
    kinds, types = set[str](), set[str]()
    _collect(description, kinds, types)
    if name in compressed.codes:
        words = [f"{compressed.codes[name].bits}-bit integers"]
    else:
        words = [" and ".join(_NAMES.get(kind, kind) for kind in sorted(types)) or "integers"]
    if kinds & {"bitmask", "relative"}:
        words.append("zeros left out")
    if "entropy" in kinds:
        words.append("entropy-coded")
    return ", ".join(words)


def _collect(description: Mapping[str, Any], kinds: set[str], types: set[str]) -> None:
    kinds.add(str(description.get("kind")))
    if "type" in description:
        types.add(str(description["type"]))
    for value in description.values():
        if isinstance(value, Mapping):
            _collect(value, kinds, types)
