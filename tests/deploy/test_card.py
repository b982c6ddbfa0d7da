from __future__ import annotations

import json
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.deploy.card import card, gather, to_html, to_markdown
from workbench.deploy.card.document import Code, Document, Paragraph, Section, Table
from workbench.deploy.formats import find_format
from workbench.deploy.writing import source_for, write
from workbench.errors import WorkbenchError
from workbench.history import History
from workbench.recipe import Recipe
from workbench.session import Session

RECIPE = "- prune: {ratio: 0.6}\n- quantize: {bits: 4}\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A history with one setting of LeNet-300-100, and the setting's number."""
    path = tmp_path_factory.mktemp("card") / "history.sqlite"
    history = History(path)
    with Session("lenet300", "fashion_mnist", history=history) as session:
        session.measure(Recipe())
        session.measure(Recipe.parse(RECIPE))
        found = session.records()[-1]
    history.close()
    assert found.id is not None
    return path, found.id


class _Tags(HTMLParser):
    """Counts tags and notes those left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_card_says_what_the_history_holds(written: tuple[Path, int], tmp_path: Path) -> None:
    path, number = written
    out = tmp_path / "card"
    command = ["report", str(number), "--history", str(path), "--out", str(out), "--device", "raspberry-pi-5"]
    assert main(command) == 0
    text = out.with_suffix(".md").read_text()
    record = History(path).record(number)
    assert f"{record.accuracy:.2%}" in text
    assert "prune: {ratio: 0.6}" in text
    assert record.recipe_hash in text
    for heading in ("Figures", "Recipe", "What changed in its behaviour", "Speed", "Layers", "To reproduce it"):
        assert f"## {heading}" in text
    assert "Raspberry Pi 5" in text
    assert "onnxruntime" in text
    assert "lost" in text
    page = out.with_suffix(".html").read_text()
    tags = _Tags(page)
    assert tags.open == []
    assert tags.seen.count("table") >= 5
    assert "script" not in tags.seen
    assert "http" not in page.replace("http-equiv", "")  # it needs nothing but itself


def test_a_card_of_an_int8_setting_tells_its_file_to_the_byte_and_how_to_write_it(
    written: tuple[Path, int], tmp_path: Path
) -> None:
    recipe = "- prune: {granularity: filter, ratio: 0.4}\n- quantize: {bits: 8, activations: {bits: 8}}"
    with Session("lenet300", "fashion_mnist", history=History(written[0])) as session:
        facts = gather(session, Recipe.parse(recipe))
        file = write(find_format("onnx-int8"), source_for(session, facts.recipe), tmp_path)[0]
        assert facts.onnx == (file.stat().st_size, True)
    text = to_markdown(card(facts))
    assert f"{facts.onnx[0] / 1e3:.1f} kB" in text
    assert "--format onnx-int8" in text
    assert "prune {granularity: filter, ratio: 0.4}, quantize {bits: 8, activations: {bits: 8}}" in text
    assert "masked" not in text, "no single weight is"


def test_the_recipe_of_a_card_gives_the_same_setting_again(written: tuple[Path, int]) -> None:
    path, number = written
    with Session("lenet300", "fashion_mnist", history=History(path)) as session:
        document = card(gather(session, Recipe.parse(RECIPE)))
    (recipe,) = [block for section in document.sections if section.title == "Recipe"
                 for block in section.blocks if isinstance(block, Code)]  # fmt: skip
    assert Recipe.parse(recipe.text).hash == History(path).record(number).recipe_hash


def test_reports_of_files_are_taken_in(written: tuple[Path, int], small: Path, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["benchmark", str(small), "--seconds", "0.2", "--json"]) == 0
    report = tmp_path / "bench.json"
    report.write_text(capsys.readouterr().out)
    path, number = written
    out = tmp_path / "card.md"
    assert main(["report", str(number), "--history", str(path), "--include", str(report), "--out", str(out)]) == 0
    assert "small.onnx" in out.read_text()
    assert json.loads(report.read_text())["runtime"] in out.read_text()


def test_text_from_outside_cannot_become_markup() -> None:
    nasty = "<script>alert(1)</script> | a\nb"
    document = Document(nasty, nasty, (Section(nasty, (Paragraph(nasty), Table((nasty,), ((nasty,),)), Code("```"))),))
    page, text = to_html(document), to_markdown(document)
    assert "<script>" not in page
    assert "\\| a b |" in text
    assert "````" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["987654"], "no setting number 987654"),
        ([], "Give the number of a setting"),
        (["--recipe", "-"], "needs --model and --data"),
        (["1", "--out", "card.pdf"], "written as .html or .md"),
        (["1", "--out", "."], "'.' is a folder"),
        (["1", "--out", "../.."], "'../..' is a folder"),
        (["1", "--out", "/"], "'/' is a folder"),
        (["1", "--history", "nowhere.sqlite"], "There is no history file"),
    ],
)
def test_bad_requests_are_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("what", ["model", "data"])
def test_a_setting_of_something_without_a_name_asks_for_it(
    written: tuple[Path, int], tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, number = written
    copy = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute(f"UPDATE settings SET {what} = 'mine'")  # as files and folders are noted
    assert main(["report", str(number), "--history", str(copy), "--out", str(tmp_path / "card.md")]) == 2
    assert f"give it with --{what}" in capsys.readouterr().err
    named = ["lenet300" if what == "model" else "fashion_mnist", "--out", str(tmp_path / "card.md")]
    assert main(["report", str(number), "--history", str(copy), f"--{what}", *named]) == 0


def test_what_is_no_report_is_refused(written: tuple[Path, int], tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"accuracy": 1}')
    with Session("lenet300", "fashion_mnist", history=History(written[0])) as session:
        with pytest.raises(WorkbenchError, match="is no report of workbench export"):
            gather(session, Recipe.parse(RECIPE), files=[other])
        with pytest.raises(WorkbenchError, match="There is no device 'toaster'"):
            gather(session, Recipe.parse(RECIPE), devices=["toaster"])
