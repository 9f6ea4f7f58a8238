"""``edgeagent journal``: look into the journal, prove it, copy records out."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from edgeagent.cli.exits import Exit, ends_well
from edgeagent.cli.offline import open_reader
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.configure import load_plan
from edgeagent.journal.store import CorruptRecord, Epoch, Reader
from edgeagent.model.record import Batch, Lane, decode_json, extend_chain, genesis

READ_BYTES = 1 << 20


@click.group()
def journal() -> None:
    r"""Look into the journal; works while the agent runs and when it is stopped.

    \b
    edgeagent journal verify --config site.yaml
    """


@journal.command("status")
@config_option
@json_option
@ends_well
def journal_status(config: Path, as_json: bool) -> None:
    """Show epochs, lanes, sizes and cursors."""
    reader = open_reader(load_plan(config).settings.state_dir)
    size = reader.file_bytes()
    epochs: list[dict[str, Any]] = [
        {
            "epoch": epoch.uuid,
            "opened_utc_ns": epoch.opened_utc_ns,
            "cause": epoch.cause,
            "lanes": {lane.value: reader.lane_range(epoch, lane).stated() for lane in Lane},
        }
        for epoch in reader.epochs()
    ]
    if as_json:
        echo_json({"bytes": size, "epochs": epochs})
        return
    click.echo(f"{size / 1e6:.1f} MB")
    for row in epochs:
        click.echo(f"epoch {row['epoch']}  ({row['cause']})")
        for name, held in row["lanes"].items():
            chain = held["chain"][:16]
            click.echo(f"  {name:<6} {held['lowest']}..{held['highest']}  chain {chain}…")


@journal.command("verify")
@config_option
@json_option
@click.pass_context
@ends_well
def verify(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Prove every record: CRC, own number, chain, and the digests of raw evidence."""
    reader = open_reader(load_plan(config).settings.state_dir)
    checked, faults = 0, []
    for epoch in reader.epochs():
        for lane in Lane:
            count, found = verify_lane(reader, epoch, lane)
            checked += count
            faults += found
    if as_json:
        echo_json({"records": checked, "faults": faults})
    else:
        for fault in faults:
            click.echo(fault, err=True)
        click.echo(f"{checked} records: {'intact' if not faults else f'{len(faults)} faults'}")
    ctx.exit(Exit.RECORDS if faults else Exit.OK)


def verify_lane(reader: Reader, epoch: Epoch, lane: Lane) -> tuple[int, list[str]]:
    """Return how many records of a lane were read, and every fault in words."""
    held = reader.lane_range(epoch, lane)
    faults: list[str] = []
    chain: bytes | None = genesis(epoch.uuid, lane)
    at, count = held.lowest - 1, 0
    stored = dict(reader.commits(epoch, lane))
    if at:
        chain = reader.chain_at(epoch, lane, at)
    replies = reader.evidence(epoch, at, held.highest) if lane is Lane.DATA else iter(())
    evidence = _Evidence(replies)
    while at < held.highest:
        try:
            entries = reader.read(epoch, lane, at, bytes_max=READ_BYTES)
        except CorruptRecord as error:
            faults.append(f"{epoch.uuid} {error}")
            at, chain = error.seq, stored.get(error.seq)
            continue
        for seq, body in entries:
            if seq != at + 1:
                faults.append(f"{epoch.uuid} lane {lane}: records {at + 1}..{seq - 1} are missing")
                chain = None
            at, count = seq, count + 1
            chain = None if chain is None else extend_chain(chain, [body])
            faults += _body_faults(epoch, lane, seq, body, evidence)
            if seq in stored:
                if chain is not None and chain != stored[seq]:
                    faults.append(
                        f"{epoch.uuid} lane {lane}: the chain breaks at or before record {seq}"
                    )
                chain = stored[seq]
    return count, faults


class _Evidence:
    """Raw replies beside a walk through the data lane, in order."""

    def __init__(self, replies: Iterator[tuple[int, bytes]]) -> None:
        self._replies = replies
        self._next = next(replies, None)

    def of(self, seq: int) -> bytes | None:
        while self._next is not None and self._next[0] < seq:
            self._next = next(self._replies, None)
        return self._next[1] if self._next is not None and self._next[0] == seq else None


def _body_faults(epoch: Epoch, lane: Lane, seq: int, body: bytes, evidence: _Evidence) -> list[str]:
    where = f"{epoch.uuid} lane {lane} record {seq}"
    try:
        content = decode_json(body)
        own = content[1]
    except (ValueError, IndexError, TypeError):
        return [f"{where}: is no record"]
    if own != seq:
        return [f"{where}: calls itself {own}"]
    if content[0] != "F" or not str(content[13]).startswith("s:"):
        return []
    raw = evidence.of(seq)
    if raw is None:
        return []  # evidence has its own, shorter retention
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return (
        [] if content[13] == f"s:{digest}" else [f"{where}: the evidence does not fit its digest"]
    )


@journal.command("export")
@config_option
@click.option("--lane", type=click.Choice([lane.value for lane in Lane]), default="data")
@click.option("--epoch", help="UUID; default: the newest.")
@click.option("--from", "first", type=int, help="First sequence number.")
@click.option("--to", "last", type=int, help="Last sequence number.")
@click.option(
    "--output", type=click.File("wb"), default="-", help="File, or - for standard output."
)
@ends_well
def export(
    config: Path,
    lane: str,
    epoch: str | None,
    first: int | None,
    last: int | None,
    output: BinaryIO,
) -> None:
    """Copy records out as batches, one after the other, in the form in which they are sent.

    Each batch is a header line and one body per line; see docs/mqtt.md section 2.
    """
    plan = load_plan(config)
    reader = open_reader(plan.settings.state_dir)
    epochs = {known.uuid: known for known in reader.epochs()}
    chosen = epochs.get(epoch) if epoch else list(epochs.values())[-1]
    if chosen is None:
        raise click.BadParameter(f"known: {', '.join(epochs)}", param_hint="--epoch")
    for batch in _batches(reader, plan.settings.site, chosen, Lane(lane), first, last):
        output.write(batch.encode() + b"\n")


def _batches(
    reader: Reader, site: str, epoch: Epoch, lane: Lane, first: int | None, last: int | None
) -> Iterator[Batch]:
    held = reader.lane_range(epoch, lane)
    at = max(held.lowest, first or 1) - 1
    end = min(held.highest, held.highest if last is None else last)
    chain = reader.chain_at(epoch, lane, at)
    while chain is not None and at < end:
        bodies = [
            entry.body for entry in reader.read(epoch, lane, at, bytes_max=READ_BYTES, upto=end)
        ]
        after = extend_chain(chain, bodies)
        yield Batch(site, epoch.uuid, lane, at + 1, bodies, chain, after)
        at, chain = at + len(bodies), after


def record_count(reader: Reader) -> dict[str, Any]:
    """Return how many frames and gaps the data lane holds, over all epochs."""
    counts = {"F": 0, "G": 0, "S": 0, "C": 0}
    for epoch in reader.epochs():
        at = 0
        while entries := reader.read(epoch, Lane.DATA, at, bytes_max=READ_BYTES):
            for entry in entries:
                counts[entry.body[2:3].decode()] += 1
            at = entries[-1].seq
    return counts
