"""Fixtures that the tests of several packages use; more of them in `fixtures`."""

import os
from pathlib import Path

import pytest

pytest_plugins = ("fixtures.drawn_experiments", "fixtures.tiny_network")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images; tests that need it skip where it is not given."""
    folder = os.environ.get("JAXMED_TEST_DATA")
    if not folder:
        pytest.skip("JAXMED_TEST_DATA does not name a folder of real images")
    return Path(folder)
