import pytest

from tests.problems import ghosts_everywhere


@pytest.fixture(autouse=True)
def _no_layer_is_too_small(monkeypatch):
    ghosts_everywhere(monkeypatch)
