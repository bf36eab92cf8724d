"""What the site needs beyond mkdocs: folders in the navigation, links that leave docs/, formulas, drawings."""

import html
import logging
import re
from pathlib import Path
from typing import Any

import latex2mathml.converter

DOCS = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
DRAWING = re.compile(r'<img [^>]*src="(?:\.\./)*(assets/[\w-]+\.svg)"[^>]*/?>')
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_config(config: Any) -> Any:
    """Fill in folders, and leave out pages that are not there."""
    config["nav"] = _present(config["nav"], {name for entry in config["nav"] for name in _files(entry)})
    return config


def _files(entry: Any) -> set[str]:
    if isinstance(entry, str):
        return {entry}
    values = (value if isinstance(value, list) else [value] for value in entry.values())
    return {name for items in values for item in items for name in _files(item)}


def _present(entries: list[Any], named: set[str]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        [(title, value)] = entry.items()
        if isinstance(value, list):
            found.append({title: _present(value, named)})
        elif value.endswith("/"):
            pages = sorted((DOCS / value).glob("*.md"), key=lambda path: (path.stem != "README", path.stem))
            names = [f"{value}{path.name}" for path in pages]
            found.append({title: [name for name in names if name not in named]})
        elif (DOCS / value).is_file():
            found.append(entry)
        else:
            logging.getLogger("mkdocs.hooks").info("not there (yet): %s", value)
    return found


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lists as GitHub reads them; a link to a file outside docs/ becomes its text: the site has no such page.

    Links to what is not there stay, and mkdocs complains about them.
    """

    def replaced(match: re.Match[str]) -> str:
        target = (DOCS / page.file.src_uri).parent / match[2]
        outside = ":" not in match[2] and target.exists() and not target.resolve().is_relative_to(DOCS)
        return match[1] if outside else match[0]

    parts = re.split(r"(^```.*?^```$)", LINK.sub(replaced, markdown), flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else _lists(part) for part in parts)


def _lists(text: str) -> str:
    """Python-Markdown wants four spaces a level and a blank line before a list; GitHub wants two and none."""
    text = re.sub(r"^((?:  )+)(?=[-*] )", r"\1\1", text, flags=re.MULTILINE)
    return re.sub(r"^(?![ \-*|#>]|\d+\. )(.+)\n(?=(?:[-*]|1\.) )", r"\1\n\n", text, flags=re.MULTILINE)


def on_page_content(content: str, **_: Any) -> str:
    """Formulas in MathML, which browsers show without a script; drawings inline, in the colours of the page."""

    def converted(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return latex2mathml.converter.convert(html.unescape(match[3]).strip(), display=display)

    drawn = DRAWING.sub(lambda match: (DOCS / match[1]).read_text(encoding="utf-8"), content)
    return FORMULA.sub(converted, drawn)
