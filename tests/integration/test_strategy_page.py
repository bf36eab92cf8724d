"""docs/strategies.md says what the code, the files and the measurements say now."""

import pytest

from mtl.config.catalog import catalog
from scripts.strategy_page.page import render
from tests.contract.exceptions import EXCEPTIONS, LAWS
from tests.problems import REPOSITORY


@pytest.mark.parametrize("method", catalog(), ids=lambda method: method.name)
def test_every_method_says_where_it_comes_from(method):
    """Of the class that documents it: a formula or words, a source, how it deviates."""
    where = f"the docstring of {method.documented.__module__}.{method.documented.__name__}"
    assert method.source, f'Add a paragraph `Source: authors, "title", venue year, arXiv id, equation.` to {where}.'
    assert method.deviations, f"Add a paragraph **Deviations.** (paper / released code / ours) to {where}."
    assert method.family


def test_the_page_is_up_to_date():
    found = (REPOSITORY / "docs/strategies.md").read_text(encoding="utf-8")
    assert found == render(LAWS, EXCEPTIONS), "Run `make docs-strategies` and look at what changed."
