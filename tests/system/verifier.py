"""Proves a recording of the lossless stream from docs/mqtt.md alone: python verifier.py FILE.

FILE has one JSON object per line: {"topic": ..., "payload_hex": ...}. Exit code 0: every record
is there, in order and unaltered. Exit code 1: that is not so, and why.
"""

import json
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path


def verify(messages: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return what is wrong with the batches among these messages; nothing, if all is well."""
    faults, lanes = [], {}
    for number, (topic, payload) in enumerate(messages, 1):
        place = topic.split("/")
        if place[-1] in ("data", "event") and place[-2] != "context":
            try:
                take(place, payload, lanes)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                faults.append(f"message {number} on {topic}: {error!r}")
    for (site, epoch, lane), (bodies, stated) in lanes.items():
        chain = sha256(f"edgeagent/1|{epoch}|{lane}".encode("ascii")).hexdigest()
        for seq in range(max(bodies) + 1):
            chain = (
                sha256(bytes.fromhex(chain) + bodies.get(seq, b"")).hexdigest() if seq else chain
            )
            if seq not in bodies or stated.get(seq, chain) != chain:
                faults.append(f"{site} {epoch} {lane}: record {seq} is missing or the chain breaks")
                break
    return faults if lanes else [*faults, "there is no batch"]


def take(place: list[str], payload: bytes, lanes: dict) -> None:
    """Add one batch to what is known of its lane: bodies and stated chain values by number."""
    line, *lines = payload.decode().split("\n")
    head = json.loads(line)
    site = place[-4] if place[-3] == "to" else place[-2]
    if (head["v"], head["site"], head["lane"], head["count"]) != (1, site, place[-1], len(lines)):
        raise ValueError("another version, site, lane or count")
    if head["first"] < 1 or "missing" in head:
        raise ValueError("records were destroyed, or are numbered below 1")
    bodies, stated = lanes.setdefault((site, head["epoch"], head["lane"]), ({0: b""}, {}))
    for seq, body in enumerate(lines, head["first"]):
        if json.loads(body, parse_constant=int)[1] != seq:  # int refuses NaN and Infinity
            raise ValueError(f"record {seq} calls itself otherwise")
        if bodies.setdefault(seq, body.encode()) != body.encode():
            raise ValueError(f"there are two records {seq}")
    for at, chain in ((head["first"] - 1, head["prev"]), (seq, head["chain"])):
        if stated.setdefault(at, chain) != chain:
            raise ValueError(f"there are two chain values at record {at}")


if __name__ == "__main__":
    read = map(json.loads, Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    found = verify((each["topic"], bytes.fromhex(each["payload_hex"])) for each in read)
    sys.stdout.write("\n".join(found or ["verified: complete, in order, unaltered"]) + "\n")
    sys.exit(bool(found))
