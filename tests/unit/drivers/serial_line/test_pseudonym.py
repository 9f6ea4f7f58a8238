"""Pseudonyms are equal within a site, and tell nothing without its key."""

import pytest

from drivers.serial_line.pseudonym import pseudonym, read_key


def test_a_pseudonym_is_a_truncated_labelled_hmac():
    # RFC 4231, test case 1: key of twenty 0x0b, "Hi There", cut to 128 bits.
    assert pseudonym(b"\x0b" * 20, "Hi There") == (
        "hmac-sha256-128:b0344c61d8db38535ca8afceaf0bf12b"
    )


def test_equal_texts_are_equal_within_a_site_and_unlike_between_two():
    assert pseudonym(b"k" * 32, "donor") == pseudonym(b"k" * 32, "donor")
    assert pseudonym(b"k" * 32, "donor") != pseudonym(b"l" * 32, "donor")


def test_a_key_that_is_missing_or_short_is_refused_with_the_way_to_make_one(tmp_path):
    path = tmp_path / "key"
    with pytest.raises(ValueError, match=r"No such file.*head -c 32 /dev/urandom"):
        read_key(path)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="5 bytes"):
        read_key(path)
    path.write_bytes(bytes(32))
    assert read_key(path) == bytes(32)
