"""A document of plain blocks, written as Markdown or as one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    """One or more sentences."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; columns from ``numbers`` on are aligned to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 1


@dataclass(frozen=True)
class Code:
    """Text to be copied, in a language."""

    text: str
    language: str = ""


Block = Paragraph | Table | Code


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A title, a line that says the most important, and sections."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def to_markdown(document: Document) -> str:
    """Return the document as GitHub's Markdown."""
    parts = [f"# {document.title}", document.lead]
    for section in document.sections:
        parts += [f"## {section.title}", *map(_markdown, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Code):
        fence = "````" if "```" in block.text else "```"
        return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
    lines = ["---:" if place >= block.numbers else "---" for place in range(len(block.header))]
    rows = [block.header, tuple(lines), *block.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def to_html(document: Document) -> str:
    """Return the document as one HTML page that needs nothing else: no script, no font, no picture."""
    escape = html.escape
    body = [f"<h1>{escape(document.title)}</h1>", f'<p class="lead">{escape(document.lead)}</p>']
    for section in document.sections:
        body.append(f"<section><h2>{escape(section.title)}</h2>")
        body += [_html(block) for block in section.blocks]
        body.append("</section>")
    return _PAGE.format(title=escape(document.title), style=_STYLE, body="\n".join(body))


def _html(block: Block) -> str:
    escape = html.escape
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Code):
        return f"<pre><code>{escape(block.text.rstrip())}</code></pre>"
    head = "".join(
        f'<th scope="col"{_aligned(block, place)}>{escape(text)}</th>' for place, text in enumerate(block.header)
    )
    rows = "\n".join(f"<tr>{_row(block, row)}</tr>" for row in block.rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'


def _row(block: Table, row: Sequence[str]) -> str:
    first, *others = row
    cells = [f'<th scope="row">{html.escape(first)}</th>']
    cells += [f"<td{_aligned(block, place)}>{html.escape(text)}</td>" for place, text in enumerate(others, 1)]
    return "".join(cells)


def _aligned(block: Table, place: int) -> str:
    return ' class="number"' if place >= block.numbers else ""


_STYLE = """
:root { color-scheme: light dark; --text: #1c2430; --muted: #5a6472; --line: #d9dee5; --sunken: #f3f5f8; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ee; --muted: #9aa4b2; --line: #38414d; --sunken: #1d242d; --page: #14191f; }
}
body { max-width: 860px; margin: 40px auto; padding: 0 20px; font: 15px/1.55 system-ui, sans-serif; color: var(--text);
  background: var(--page); }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; }
h2 { font-size: 17px; margin: 34px 0 8px; }
.lead { font-size: 16px; color: var(--muted); margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { color: var(--muted); font-weight: 500; }
tbody th { font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media (max-width: 600px) {
  body { margin: 20px auto; padding: 0 14px; }
  table { font-size: 12.5px; }
  tbody th, td:not(.number) { min-width: 7em; }
}
pre { background: var(--sunken); padding: 12px 14px; border-radius: 6px; overflow-x: auto; font-size: 13px; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
