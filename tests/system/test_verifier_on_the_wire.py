"""A verifier written from the documents alone proves what a plain subscriber recorded.

Method: mosquitto_sub, a client that we did not write, records everything below the site's topic
while the slaves send NaN, infinities, -0.0 and 64-bit counters.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.brokers import tool
from tests.system.chain import SITE, Chain, wait_until

VERIFIER = Path(__file__).with_name("verifier.py")


def test_a_plain_subscriber_can_prove_what_it_holds(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.txt"
    with Chain(tmp_path, devices=3, period="50 ms") as chain:
        command = [tool("mosquitto_sub"), "-h", "127.0.0.1", "-p", str(chain.broker.port)]
        command += ["-V", "mqttv5", "-q", "1", "-t", f"edge/v1/{SITE}/#", "-F", "%t %x"]
        chain.agent.kill()
        with recorded.open("wb") as output:
            subscriber = subprocess.Popen(command, stdout=output)
            wait_until("the subscriber is there", lambda: chain.broker_clients() >= 2)
            chain.agent.start()
            wait_until("values", lambda: chain.answers() > 900)
            chain.finish(attempts=1)
            subscriber.terminate()
            subscriber.wait()
    messages = tmp_path / "messages.jsonl"
    payloads = []
    with messages.open("w") as file:
        for line in recorded.read_text().splitlines():
            topic, payload = line.split(" ", 1)
            payloads.append(bytes.fromhex(payload))
            file.write(json.dumps({"topic": topic, "payload_hex": payload}) + "\n")
    done = subprocess.run(
        [sys.executable, str(VERIFIER), str(messages)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    everything = b"\n".join(payloads)
    assert b"-0.0" in everything
    assert b"2151416832" in everything, "the status of a NaN"
    assert b"2151417344" in everything, "the status of an infinity"
    assert len(VERIFIER.read_text().splitlines()) <= 60
    assert "edgeagent" not in "".join(
        line for line in VERIFIER.read_text().splitlines() if line.startswith(("import", "from"))
    )
