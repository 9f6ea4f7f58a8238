"""Databases for the receiver's tests: a new one for each, of both kinds."""

import pytest

from tests.unit.central.postgres import Cluster, running_cluster


@pytest.fixture(scope="session")
def cluster():
    with running_cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'central.sqlite'}"
    running: Cluster = request.getfixturevalue("cluster")
    return running.new_database()
