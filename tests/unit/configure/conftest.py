"""The site that each test spoils."""

import pytest

from tests.unit.configure.site import Files


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)
