"""The site: it builds strictly, has every page, asks for nothing from the network, and shows what GitHub shows."""

import html.parser
import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.pages import PAGES
from tests.problems import REPOSITORY

DOCS = REPOSITORY / "docs"
pytestmark = pytest.mark.slow


class Resources(html.parser.HTMLParser):
    """What a browser would load with a page, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag in ("script", "img", "link", "iframe", "source"):
            self.loaded.append(given.get("src") or given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("site")
    command = ["mkdocs", "build", "--strict", "--quiet", "--config-file", "docs/site/mkdocs.yml", "--site-dir"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", *command, str(directory)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return directory


def pages_of(site):
    return {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_every_page_is_there_and_in_the_navigation(site):
    built = pages_of(site)
    home = Resources(built["index.html"])
    sections = [Resources(built[link]).links for link in home.links if link in built]
    reached = {link for links in [home.links, *sections] for link in links}
    for page in PAGES:
        if page.startswith("docs/"):
            target = re.sub(r"(README|index)\.md$", "index.md", page.removeprefix("docs/")).replace(".md", ".html")
            assert target in built, page
            assert any(link.endswith(target.rpartition("/")[2]) for link in reached), page


def test_nothing_is_asked_from_the_network(site):
    for name, text in pages_of(site).items():
        for resource in Resources(text).loaded:
            assert not re.match(r"(https?:)?//", resource), (name, resource)
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_links_between_built_pages_lead_somewhere(site):
    for path in site.rglob("*.html"):
        if path.name == "404.html":
            continue
        for link in Resources(path.read_text(encoding="utf-8")).links:
            if link and not re.match(r"[a-z]+:|#", link):
                assert (path.parent / link.partition("#")[0]).exists(), (path, link)


def test_formulas_and_drawings_are_shown(site):
    strategies = (site / "strategies.html").read_text(encoding="utf-8")
    displayed = len(re.findall(r"^\$\$$", (DOCS / "strategies.md").read_text(), re.MULTILINE)) / 2
    assert strategies.count('display="block"') == displayed > 20
    anatomy = (site / "anatomy-of-a-step.html").read_text(encoding="utf-8")
    assert anatomy.count('class="step"') == len(list((DOCS / "assets").glob("step-*.svg"))) == 5
    assert "math" in Resources(anatomy).tags
    for text in pages_of(site).values():
        assert 'class="arithmatex"' not in text


def test_the_navigation_names_each_page_once():
    navigation = (DOCS / "site/mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    names = re.findall(r": ([\w/-]+(?:\.md|/))$", navigation, re.MULTILINE)
    assert len(set(names)) == len(names) > 15
    assert yaml.safe_load(f"nav:{navigation}")
