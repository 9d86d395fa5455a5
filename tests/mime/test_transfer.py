"""Transfer encodings, well formed and not."""

from __future__ import annotations

from base64 import b64encode, encodebytes
from binascii import b2a_uu
from functools import partial
from quopri import encodestring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.growth import pumped, superlinear
from imapipe.mime.transfer import decode_transfer, decoded_size, estimated_size


@given(st.binary(max_size=300))
def test_what_was_encoded_is_decoded(data: bytes) -> None:
    assert decode_transfer("base64", encodebytes(data).replace(b"\n", b"\r\n")) == data
    assert decode_transfer("quoted-printable", encodestring(data, quotetabs=True)) == data
    lines = [b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)]
    assert decode_transfer("x-uuencode", b"begin 644 a.bin\n" + b"".join(lines) + b"`\nend\n") == data
    for encoding in ("", "7bit", "8bit", "binary", "x-unknown"):
        assert decode_transfer(encoding, data) == data


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        # Junk, missing padding, a cut end, padding in the middle, text of a mailing list behind it.
        ("base64", b"aGVs\r\n!!bG8=\r\n", b"hello"),
        ("base64", b"aGVsbG8", b"hello"),
        ("base64", b"aGVsbG8hI", b"hello!"),
        ("base64", b"aGVsbG8=\r\naGVsbG8=\r\n", b"hellohello"),
        ("base64", b"aGVsbG8=\r\n_____\r\nA list, and its footer\r\n", b"hello"),
        # The same behind a content that needs no padding, and what is not that.
        ("base64", b"aGVsbG8h\r\n\r\n_____\r\nA list, and its footer\r\n", b"hello!"),
        ("base64", b"\n\naGVsbG8h\n\n_____\nA list, and its footer\n", b"hello!"),
        ("base64", b"aGVsbG8h\r\n\r\naGVsbG8h\r\n", b"hello!hello!"),
        ("base64", b"aGVsbG8h\r\n\r\naGVs!bG8h\r\n\r\n", b"hello!hello!"),
        # Never encoded; with spaces put in.
        ("base64", b"plain words here\r\nand there\r\n", b"plain words here\r\nand there\r\n"),
        ("base64", b"aGVs bG8h\r\n", b"hello!"),
        ("base64", b" aGVsbG8hI\r\n", b"hello!"),
        ("base64", b"", b""),
        ("base64", b"=", b""),
        ("Base-64".lower(), b"aGVsbG8=", b"hello"),
        # Soft breaks with white space, of a Mac, at the end; what is no escape; lower-case digits.
        ("quoted-printable", b"a= \r\nb=\t\r\nc", b"abc"),
        ("quoted-printable", b"a=\rb c=\r\nd", b"ab cd"),
        ("quoted-printable", b"a=", b"a"),
        ("quoted-printable", b"a=ZZ 100% =c3=A9", "a=ZZ 100% é".encode()),
        ("quoted-printable", b"a==3D", b"a=="),
        ("quoted printable", b"=41", b"A"),
        ("uuencode", b"no begin", b"no begin"),
        ("x-uue", b"begin 644 a\r\n#86)C\r\n`\r\nend\r\n", b"abc"),
        ("x-uue", b"begin 644 a\r\n#86)C!!junk!!\r\n\xff\xff\r\n", b"abc"),
    ],
)
def test_what_is_broken_is_decoded_as_far_as_it_goes(encoding: str, data: bytes, expected: bytes) -> None:
    assert decode_transfer(encoding, data) == expected
    assert decoded_size(encoding, data) == len(expected)


@given(st.binary(max_size=200), st.sampled_from(["base64", "quoted-printable", "x-uuencode", "7bit", "?"]))
def test_any_bytes_are_decoded(data: bytes, encoding: str) -> None:
    assert decoded_size(encoding, data) == len(decode_transfer(encoding, data))


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("size", [1_200_000, 1_200_001, 1_200_002])
def test_the_size_of_large_base64_is_not_decoded_for(end: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encodebytes(bytes(size)).replace(b"\n", end)
    odd = data[:1000] + b" " + data[1000:]
    assert decoded_size("base64", odd) == size

    def fail(*_: object) -> bytes:
        raise AssertionError("decoded to be counted")

    monkeypatch.setattr("imapipe.mime.transfer.decode_base64", fail)
    assert decoded_size("base64", data) == size
    assert decoded_size("base64", b64encode(bytes(size)) + end) == size
    assert abs(estimated_size("base64", len(data)) - size) < 0.02 * size
    assert estimated_size("8bit", 5) == 5


@pytest.mark.no_cover
@pytest.mark.parametrize("piece", [b"=", b"= ", b"=\r", b"A=", b"A===", b"AAA=\r\n", b"\n", b" "])
@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "uuencode"])
def test_hostile_data_is_linear(piece: bytes, encoding: str) -> None:
    # A second scan for each piece would take 10**10 steps.
    sizes = (2_000, 16_000, 128_000)
    make = partial(pumped, b"", piece, b"")
    assert superlinear(partial(decode_transfer, encoding), make, sizes) is None
    assert superlinear(partial(decoded_size, encoding), make, sizes) is None
    data = make(sizes[-1])
    assert len(decode_transfer(encoding, data)) <= len(data)
    assert decoded_size("base64", data) <= len(data)
