"""``edgeagent journal``: look into the journal, prove it, copy records out."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import click

from edgeagent.cli.exits import CommandFailed, Exit, ends_well
from edgeagent.cli.offline import open_reader
from edgeagent.cli.options import config_option, echo_json, json_option
from edgeagent.configure import load_plan
from edgeagent.journal.store import CorruptRecord, Epoch, Reader
from edgeagent.model.record import Batch, Entry, Lane, decode_json, extend_chain, genesis

READ_BYTES = 1 << 20


@click.group()
def journal() -> None:
    """Look into the journal; works while the agent runs and when it is stopped.

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
    _, highest = reader.bounds(epoch, lane)
    where = f"{epoch.uuid} lane {lane}"
    faults: list[str] = []
    chain: bytes | None = genesis(epoch.uuid, lane)
    at = count = 0
    stored: dict[int, bytes] = {}
    while at < highest:
        before = at
        try:
            entries = reader.read(epoch, lane, at, bytes_max=READ_BYTES, upto=highest)
        except CorruptRecord as error:
            faults.append(f"{epoch.uuid} {error}")
            at = error.seq
            stored = dict(reader.anchors(epoch, lane, before, at))
            chain = stored.get(at)
            continue
        at = entries[-1].seq
        stored = dict(reader.anchors(epoch, lane, before, at))
        replies = dict(reader.evidence(epoch, before, at)) if lane is Lane.DATA else {}
        count += len(entries)
        for seq, body in entries:
            chain = None if chain is None else extend_chain(chain, [body])
            faults += [f"{where} record {seq}: {f}" for f in _body_faults(seq, body, replies)]
            if seq in stored:
                if chain is not None and chain != stored[seq]:
                    faults.append(f"{where}: the chain breaks at or before record {seq}")
                chain = stored[seq]
    if highest and reader.anchor_after(epoch, lane, highest) is None:
        faults.append(f"{where}: ends with record {highest} inside a commit")
    return count, faults


def _body_faults(seq: int, body: bytes, replies: Mapping[int, bytes]) -> list[str]:
    try:
        content = decode_json(body)
        own, evidence = content[1], content[13] if content[0] == "F" else None
    except (ValueError, LookupError, TypeError):
        return ["is no record"]
    if own != seq:
        return [f"calls itself {own}"]
    # Evidence has its own, shorter retention: what is not there is no fault.
    if not str(evidence).startswith("s:") or seq not in replies:
        return []
    digest = base64.urlsafe_b64encode(hashlib.sha256(replies[seq]).digest()).rstrip(b"=").decode()
    return [] if evidence == f"s:{digest}" else ["the evidence does not fit its digest"]


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
    try:
        for batch in _batches(reader, plan.settings.site, chosen, Lane(lane), first, last):
            output.write(batch.encode() + b"\n")
    except CorruptRecord as error:
        anchor = reader.anchor_after(chosen, error.lane, error.seq)
        hint = f"; go on with --from {anchor[0] + 1}" if anchor else ""
        raise CommandFailed(
            f"{chosen.uuid} {error}: the chain is lost there{hint}", Exit.RECORDS
        ) from None


def _batches(
    reader: Reader, site: str, epoch: Epoch, lane: Lane, first: int | None, last: int | None
) -> Iterator[Batch]:
    lowest, highest = reader.bounds(epoch, lane)
    at = max(lowest, first or 1) - 1
    end = min(highest, highest if last is None else last)
    chain = reader.chain_at(epoch, lane, at)
    while chain is not None and at < end:
        missing: list[int] = []
        try:
            entries = reader.read(epoch, lane, at, bytes_max=READ_BYTES, upto=end)
            after = extend_chain(chain, (entry.body for entry in entries))
        except CorruptRecord as error:
            entries, missing, after = _around(reader, epoch, lane, at, error)
        bodies = [entry.body for entry in entries]
        batch = Batch(site, epoch.uuid, lane, at + 1, bodies, chain, after, missing)
        yield batch
        at, chain = batch.last, after


def _around(
    reader: Reader, epoch: Epoch, lane: Lane, after: int, damage: CorruptRecord
) -> tuple[list[Entry], list[int], bytes]:
    """Return what is left up to the next anchor, what is missing, and the chain value there.

    :raises CorruptRecord: if there is no anchor any more
    """
    anchor = reader.anchor_after(epoch, lane, damage.seq)
    if anchor is None:
        raise damage
    last, chain = anchor
    entries: list[Entry] = []
    missing: list[int] = []
    while after < last:
        try:
            entries += reader.read(epoch, lane, after, bytes_max=READ_BYTES, upto=last)
            after = entries[-1].seq
        except CorruptRecord as error:
            after = error.seq
            missing.append(after)
    return entries, missing, chain


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
