"""Pseudonyms: texts that may name a person, replaced before they leave the driver.

HMAC-SHA-256 (RFC 2104) under a key of the site, cut to 128 bits (NIST SP 800-107, 5.3.3). Equal
texts become equal pseudonyms within a site, so a bag is found again; nobody without the key can
tell or try out which text it was, and two sites cannot be joined.
"""

import hmac
from pathlib import Path

LABEL = "hmac-sha256-128:"
KEY_BYTES_MIN = 32
_PSEUDONYM_BYTES = 16


def read_key(path: Path) -> bytes:
    """Return the site's key.

    :raises ValueError: if there is none that is usable; the text says how to make one
    """
    mend = f"make one with: head -c {KEY_BYTES_MIN} /dev/urandom > {path}"
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ValueError(f"pseudonym key {path}: {error.strerror}; {mend}") from None
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(
            f"pseudonym key {path} has {len(key)} bytes, fewer than {KEY_BYTES_MIN}; {mend}"
        )
    return key


def pseudonym(key: bytes, text: str) -> str:
    """Return the pseudonym of a text: the label, then 32 hexadecimal digits."""
    digest = hmac.digest(key, text.encode(), "sha256")
    return LABEL + digest[:_PSEUDONYM_BYTES].hex()
