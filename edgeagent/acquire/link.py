"""What every owner task of a link has in common: connect, serve, note the loss, back off."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import structlog

from edgeagent.acquire.acquisition import Acquisition, LinkStatus
from edgeagent.driver import GroupSchema, Identity, LinkLost, PolledDriver, SubscribedDriver
from edgeagent.model.backoff import backoff_s
from edgeagent.model.errors import JournalFailed

CLOSE_TIMEOUT_S = 2.0

log = structlog.get_logger()


async def keep_link(
    driver: PolledDriver | SubscribedDriver,
    serve: Callable[[tuple[Identity, ...]], Awaitable[None]],
    acquisition: Acquisition,
    status: LinkStatus,
    groups: Sequence[GroupSchema],
    random: Random,
    wait_s_max: float = 30.0,
) -> None:
    """Keep one link up, for ever.

    :param serve: takes over after each connect, with who answered, until the link is lost
    :param wait_s_max: longest wait before the next attempt
    :raises JournalFailed: passed on, because going on would lose data
    """
    attempt = 0

    def change(state: str, cause: str | None) -> None:
        if status.state != state:
            status.since_utc_ns = acquisition.recorder.clock.utc_ns()
            write = log.info if state == "up" else log.warning
            write(f"link.{state}", link=status.name, cause=cause)
        status.state, status.cause = state, cause

    def lost(cause: str, detail: str) -> None:
        change("down", detail)
        for group in groups:
            acquisition.miss(group, cause, detail)

    while True:
        frames = status.frames
        try:
            identities = await driver.connect()
            change("up", None)
            status.connects += 1
            for identity in identities:
                acquisition.identified(identity)
            await serve(identities)
        except LinkLost as error:
            lost("link_lost", str(error))
        except JournalFailed:
            raise
        except Exception as error:  # noqa: BLE001 - a defect of one driver must not stop the others
            log.error("driver.defect", link=status.name, trace=traceback.format_exc())
            lost("internal_error", f"{type(error).__name__}: {error}")
        finally:
            await _close(driver, status.name)
        attempt = 1 if status.frames > frames else attempt + 1
        await asyncio.sleep(backoff_s(attempt, random.random(), cap_s=wait_s_max))


async def _close(driver: PolledDriver | SubscribedDriver, link: str) -> None:
    """Close, whatever the driver does: it must not keep its link from coming up again."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await driver.close()
    except TimeoutError:
        log.warning("driver.close_timeout", link=link)
    except Exception:  # noqa: BLE001 - as above
        log.error("driver.defect", link=link, trace=traceback.format_exc())
