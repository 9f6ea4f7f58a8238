"""What holds for every test: no task outlives it, and a property tries the same cases each time.

``pytest --hypothesis-profile=explore`` tries many new ones.
"""

import asyncio

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", settings.get_profile("steady"), derandomize=False, max_examples=5000
)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
async def no_task_survives():
    """Fail a test that leaves a task behind: in the agent that would be a link nobody owns."""
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"still running: {sorted(task.get_name() for task in left)}"
