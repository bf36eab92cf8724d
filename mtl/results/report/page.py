"""The whole page: one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from markupsafe import Markup

from mtl.results.report.curves import conflicts_section, curves_section, weights_section
from mtl.results.report.differences import differences_section
from mtl.results.report.gains import gains_section
from mtl.results.report.glyphs import definitions, name
from mtl.results.report.listing import lost_section
from mtl.results.report.markup import tag
from mtl.results.report.material import Material, Section
from mtl.results.report.pictures import pictures_section
from mtl.results.report.protocol import protocol_section
from mtl.results.report.results import results_section
from mtl.results.report.structure import structure_section
from mtl.results.report.summary import summary
from mtl.results.report.tradeoffs import tasks_section, time_section

SECTIONS = (
    results_section,
    differences_section,
    gains_section,
    time_section,
    tasks_section,
    curves_section,
    weights_section,
    conflicts_section,
    structure_section,
    pictures_section,
    lost_section,
    protocol_section,
)
"""In the order of the page; one without data returns None and is left out."""


def render(material: Material) -> str:
    """The page as text. It is a function of the material: the same runs give the same bytes."""
    sections = [found for make in SECTIONS if (found := make(material)) is not None]
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    title = f"{_subject(material)}: {len(material.competitors)} multi-task methods"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(style)),
        tag("script", Markup(script)),
    )
    main = tag("main", _header(material), [_section(one) for one in sections], id="main")
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        definitions(),
        tag("div", _panel(material, sections), main, class_="layout"),
        tag("div", id="tip", role="status", aria_live="polite", hidden=True),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _subject(material: Material) -> str:
    return ", ".join(sorted({run.dataset for run in material.runs}))


def _header(material: Material) -> Markup:
    return tag(
        "header",
        tag("p", "Multi-task comparison", class_="eyebrow"),
        tag("h1", _subject(material)),
        summary(material),
        class_="top",
        id="summary",
    )


def _section(section: Section) -> Markup:
    title = tag("h2", section.title, id=f"{section.anchor}-title")
    aid = tag("p", section.aid, class_="aid")
    return tag("section", title, aid, section.body, id=section.anchor, aria_labelledby=f"{section.anchor}-title")


def _panel(material: Material, sections: Sequence[Section]) -> Markup:
    """Beside the page: sections, methods (legend, filter), theme. On small screens it folds into a bar."""
    links = [tag("li", tag("a", one.title, href=f"#{one.anchor}")) for one in sections]
    nav = tag("nav", tag("ul", tag("li", tag("a", "Summary", href="#summary")), links), aria_label="Sections")
    entries = [
        tag(
            "label",
            tag("input", type="checkbox", checked=True, data_method=look.key),
            name(look),
            class_="entry",
            data_name=look.label,
        )
        for look in material.looks.values()
    ]
    methods = tag(
        "fieldset",
        tag("legend", "Methods"),
        tag(
            "div",
            tag("input", type="search", id="filter", placeholder="Filter", aria_label="Filter methods by name"),
            tag("button", "All", type="button", id="all"),
            tag("button", "None", type="button", id="none"),
            class_="tools",
        ),
        tag("div", entries, class_="entries"),
    )
    theme = tag("button", "Theme: system", type="button", id="theme")
    bar = tag(
        "div",
        tag("span", _subject(material), class_="bar-title"),
        tag("button", "Contents", type="button", id="open", aria_expanded="false", aria_controls="panel"),
        theme,
        class_="bar",
    )
    return tag("aside", bar, tag("div", nav, methods, id="panel"), aria_label="Sections, methods and theme")


def _asset(file: str) -> str:
    return (resources.files("mtl.results.report") / "assets" / file).read_text(encoding="utf-8")
