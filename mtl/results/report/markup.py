"""HTML and SVG elements whose text is always escaped (MarkupSafe does the escaping)."""

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape

Content = str | Markup | Iterable["Content"] | None
_VOID = frozenset(("br", "col", "img", "input", "link", "meta"))


def tag(element: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element.

    Args:
        element: Its name.
        children: Text (escaped), `Markup` (as it is), nested sequences of them; None is left out.
        attributes: `class_` is `class`, `data_m` is `data-m`; None and False are left out, True has no value.
    """
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        title = key.rstrip("_").replace("_", "-")
        words.append(title if value is True else f'{title}="{escape(value)}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in _VOID else f"{opening}{joined(children)}</{element}>")


def joined(children: Content) -> Markup:
    """Children one after another, text escaped."""
    if children is None:
        return Markup("")
    if isinstance(children, str):
        return escape(children)
    return Markup("").join(joined(child) for child in children)


def breakable(text: str, after: str) -> Markup:
    """Text that may break into lines after a character, without a hyphen."""
    return Markup(f"{after}<wbr>").join(text.split(after))


def hidden(text: str) -> Markup:
    """Text for screen readers only."""
    return tag("span", text, class_="vh")
