"""The consumer of the script: commits every message to SQLite, sends no receipts.

It does for the script's messages what a receiver has to do at least: parse, one row per message,
one transaction per batch of messages that have arrived, rollback journal, synchronous FULL. The
commit time of every message is noted for the bench (``commits.py``) and written on SIGTERM.
"""

import argparse
import json
import queue
import signal
import sqlite3
import sys
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.commits import Commit, write_commits

Row = tuple[int, int, int, str]
"""Device, its own UTC stamp, the script's UTC stamp (both ns), the message."""

TABLE = "CREATE TABLE message (device INTEGER, stamp_ns INTEGER, utc_ns INTEGER, body TEXT) STRICT"


def open_database(path: Path) -> sqlite3.Connection:
    """Open a new database that survives a power cut after each commit."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(TABLE)
    return database


def parse(payload: bytes) -> Row:
    """Return the row of a message."""
    message = json.loads(payload)
    return message["device"], message["values"][0], message["utc_ns"], payload.decode()


def arrived(messages: "queue.SimpleQueue[bytes]") -> list[bytes]:
    """Wait for a message; return it with all others that have arrived."""
    batch = [messages.get()]
    while not messages.empty():
        batch.append(messages.get())
    return batch


def store(database: sqlite3.Connection, rows: list[Row]) -> int:
    """Commit rows in one transaction; return the UTC in ns after it."""
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO message VALUES (?, ?, ?, ?)", rows)
    database.execute("COMMIT")
    return time.time_ns()


def subscribe(broker_port: int, topic: str, messages: "queue.SimpleQueue[bytes]") -> mqtt.Client:
    """Connect a client whose thread puts every payload into the queue."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)

    def on_connect(*_: object) -> None:
        client.subscribe(topic, qos=1)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        messages.put(bytes(message.payload))

    client.on_connect = on_connect
    client.on_message = on_message
    client.connect("127.0.0.1", broker_port)
    client.loop_start()
    return client


def main() -> None:
    """Store messages until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--topic", default="naive/#")
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--commit-log", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    database = open_database(arguments.database)
    client = subscribe(arguments.broker_port, arguments.topic, messages)
    commits: list[Commit] = []
    try:
        while True:
            rows = [parse(payload) for payload in arrived(messages)]
            committed_utc_ns = store(database, rows)
            commits.extend(Commit(committed_utc_ns, row[1]) for row in rows)
    finally:
        client.loop_stop()
        write_commits(arguments.commit_log, commits)


if __name__ == "__main__":
    main()
