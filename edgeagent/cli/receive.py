"""``edgeagent receive``: the reference receiver."""

import asyncio
import gc
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from edgeagent.cli.exits import CommandFailed, Exit
from edgeagent.cli.options import echo_json

if TYPE_CHECKING:
    from edgeagent.central.receiver import Progress, Receiver, ReceiverSettings
    from edgeagent.central.store import Store
    from edgeagent.model.settings import BrokerSettings

STOP_TIMEOUT_S = 4.0
REPORT_EVERY_S = 1.0
COUNTS = ("records", "duplicates", "rejected", "conflicts", "quarantined", "receipts")

_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--broker", required=True, help="mqtt://host[:port] or mqtts://host[:port]")
@click.option("--consumer", default="central", show_default=True, help="Name as enrolled.")
@click.option("--site", default="+", show_default=True, help="One site, or + for all.")
@click.option("--topic-root", default="edge/v1", show_default=True, help="As in the site files.")
@click.option(
    "--database",
    default="sqlite:///central.sqlite",
    show_default=True,
    envvar="EDGEAGENT_DATABASE",
    help="sqlite:///PATH or postgresql://USER@HOST/NAME",
)
@click.option("--mqtt", type=click.Choice(["5", "3.1.1"]), default="5", show_default=True)
@click.option("--shared", is_flag=True, help="One of several receivers that share the work.")
@click.option("--user", help="User name at the broker.")
@click.option("--password-file", type=_file, help="File with the password.")
@click.option("--ca", type=_file, help="Authorities of the broker's certificate.")
@click.option("--certificate", type=_file, help="Own certificate.")
@click.option("--key", type=_file, help="Key of the own certificate.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a second.")
def receive(as_json: bool, database: str, **options: Any) -> None:
    """Receive from agents, keep everything in a database, and send receipts.

    \b
    edgeagent receive --broker mqtts://broker.example --site berlin-1
    edgeagent receive --broker mqtt://localhost --database postgresql://central@db/edge --shared

    A password for the database belongs in PGPASSFILE, not in the address. docs/receiver.md
    explains the tables.
    """
    from edgeagent.central.store import DatabaseFailed, Store
    from edgeagent.model.clock import SystemClock

    settings = _settings(**options)
    with _reporting(as_json) as report:
        try:
            store = Store(database, SystemClock())
            stopped = asyncio.run(_receive(settings, store, report))
        except DatabaseFailed as error:
            raise CommandFailed(str(error), Exit.JOURNAL) from None
    if not stopped:
        raise CommandFailed("the database did not answer; stopped without it", Exit.JOURNAL)
    store.close()


def _settings(
    *, consumer: str, site: str, topic_root: str, shared: bool, **broker: Any
) -> "ReceiverSettings":
    from edgeagent.central.intake import is_identifier
    from edgeagent.central.receiver import ReceiverSettings

    if not is_identifier(consumer):
        raise click.UsageError("--consumer: letters, digits, '_', '.' and '-' only, at most 64")
    if site != "+" and not is_identifier(site):
        raise click.UsageError("--site: the name of one site, or + for all")
    if shared and broker["mqtt"] != "5":
        raise click.UsageError("--shared needs MQTT 5")
    return ReceiverSettings(
        broker=_broker(**broker),
        consumer=consumer,
        site=site,
        topic_root=topic_root,
        shared=shared,
        receipt_every_s=1.0 if shared else 0.2,
    )


def _broker(
    *,
    broker: str,
    mqtt: Any,
    user: str | None,
    password_file: Path | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> "BrokerSettings":
    from pydantic import ValidationError

    from edgeagent.model.settings import BrokerSettings

    try:
        return BrokerSettings(
            url=broker,
            version=mqtt,
            username=user,
            password_file=password_file,
            ca_file=ca,
            certificate_file=certificate,
            key_file=key,
        )
    except ValidationError as error:
        raise click.UsageError("; ".join(fault["msg"] for fault in error.errors())) from None


async def _receive(
    settings: "ReceiverSettings", store: "Store", report: Callable[["Progress", float], None]
) -> bool:
    """Receive until SIGTERM or SIGINT; return whether everything ended in time."""
    from edgeagent.central.receiver import Receiver
    from edgeagent.model.clock import SystemClock

    # A second receiver that is not told to share must not go unnoticed: same id, and one of the
    # two is shut out by the broker.
    own = f"-{socket.gethostname()}-{uuid.uuid4().hex[:8]}" if settings.shared else ""
    client_id = f"{settings.consumer}-receiver{own}"
    receiver = Receiver(settings, store, client_id, SystemClock(), Random())  # noqa: S311 - jitter
    gc.freeze()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    reporting = asyncio.create_task(_report(receiver, report), name="report")
    running = asyncio.create_task(receiver.run(), name="receiver")
    asking = asyncio.create_task(stopping.wait(), name="signals")
    try:
        await asyncio.wait([running, asking], return_when=asyncio.FIRST_COMPLETED)
        receiver.stop()
        ended, _ = await asyncio.wait([running], timeout=STOP_TIMEOUT_S)
        if ended:
            running.result()
            report(receiver.progress, loop.time())
        return bool(ended)
    finally:
        for task in (reporting, asking, running):
            task.cancel()


async def _report(receiver: "Receiver", report: Callable[["Progress", float], None]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        report(receiver.progress, loop.time())
        await asyncio.sleep(REPORT_EVERY_S)


@contextmanager
def _reporting(as_json: bool) -> Iterator[Callable[["Progress", float], None]]:
    """Yield what shows progress: a live line, a line a second, or a JSON object a second."""
    from edgeagent.operate.logs import set_up_logs

    if as_json:
        set_up_logs()
        yield _safely(lambda progress, _: echo_json(_as_dict(progress)))
    elif not sys.stdout.isatty():
        set_up_logs()
        yield _safely(_lines())
    else:
        from rich.live import Live

        words = _Words()
        with Live("connecting", auto_refresh=False) as live:
            set_up_logs()  # now, so that log lines appear above the live line
            yield lambda progress, now_s: live.update(words.of(progress, now_s), refresh=True)


def _safely(
    report: Callable[["Progress", float], None],
) -> Callable[["Progress", float], None]:
    """Let the reader of our output go away without ending the receiver."""

    def guarded(progress: "Progress", now_s: float) -> None:
        with suppress(BrokenPipeError):
            report(progress, now_s)

    return guarded


def _lines() -> Callable[["Progress", float], None]:
    """Return what prints a line when something changed."""
    said: dict[str, Any] = {}

    def line(progress: "Progress", _now_s: float) -> None:
        now = {"sites": len(progress.sites), **_counts(progress), "behind": len(progress.holes)}
        if now != said:
            said.update(now)
            click.echo("  ".join(f"{name} {value}" for name, value in now.items()))

    return line


class _Words:
    """The live line, with the rate since the last one."""

    def __init__(self) -> None:
        self._before: tuple[int, float] | None = None

    def of(self, progress: "Progress", now_s: float) -> str:
        records, at_s = self._before or (progress.records, now_s)
        rate = (progress.records - records) / max(now_s - at_s, 1e-3)
        self._before = progress.records, now_s
        state = "connected" if progress.connected else "not connected"
        parts = [f"{name} {value}" for name, value in _counts(progress).items() if value]
        parts.insert(0, f"{state}  sites {len(progress.sites)}  {rate:.0f} records/s")
        parts += [f"waiting for {first}-{last}" for first, last in progress.holes.values()][:3]
        return "  ".join(parts)


def _counts(progress: "Progress") -> dict[str, int]:
    return {name: getattr(progress, name) for name in COUNTS}


def _as_dict(progress: "Progress") -> dict[str, Any]:
    return {
        "connected": progress.connected,
        "sites": sorted(progress.sites),
        **_counts(progress),
        "prefix": {"/".join(key): upto for key, upto in sorted(progress.prefix.items())},
        "holes": {"/".join(key): span for key, span in sorted(progress.holes.items())},
    }
