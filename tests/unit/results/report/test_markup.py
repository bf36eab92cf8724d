"""Elements: whatever the text, it stays text."""

import html
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from mtl.results.report.markup import breakable, tag


class Collector(HTMLParser):
    """What a browser would see: tags, their attributes, text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], {}, ""

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes |= dict(attributes)

    def handle_data(self, data):
        self.text += data


def seen(markup):
    parser = Collector()
    parser.feed(str(markup))
    parser.close()
    return parser


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")))


@given(TEXT)
def test_text_comes_back_as_text(text):
    found = seen(tag("p", text))
    assert found.tags == ["p"]
    assert found.text == text


@given(TEXT)
def test_attributes_come_back_as_they_were(text):
    found = seen(tag("p", "x", title=text, data_m=3))
    assert found.tags == ["p"]
    assert found.attributes == {"title": text, "data-m": "3"}


def test_markup_is_not_escaped_twice_and_nests():
    inner = tag("b", "a & b")
    assert tag("p", [inner, None, " < "], class_="x") == '<p class="x"><b>a &amp; b</b> &lt; </p>'
    assert tag("input", checked=True, disabled=False) == "<input checked>"


def test_breakable_text_is_the_same_text():
    assert html.unescape(str(breakable("a_b<c>", "_")).replace("<wbr>", "")) == "a_b<c>"
