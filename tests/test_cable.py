"""A cable that was cut lets nothing through, and what was on its way arrives when it is mended."""

from __future__ import annotations

import socket

import pytest

from cable import Cable

_HOST = "127.0.0.1"


def test_what_is_sent_while_it_is_cut_comes_when_it_is_mended() -> None:
    with socket.create_server((_HOST, 0)) as server, Cable(server.getsockname()[1]) as cable:
        near = socket.create_connection((_HOST, cable.port))
        far, _ = server.accept()
        with near, far:
            near.sendall(b"one")
            assert far.recv(10) == b"one"
            cable.cut()
            near.sendall(b"two")
            far.sendall(b"too")
            far.settimeout(0.05)
            with pytest.raises(TimeoutError):
                far.recv(10)
            cable.mend()
            far.settimeout(60)
            assert (far.recv(10), near.recv(10)) == (b"two", b"too")
            cable.drop()
            assert far.recv(10) == b""


def test_after_a_reset_nothing_of_before_arrives() -> None:
    with socket.create_server((_HOST, 0)) as server, Cable(server.getsockname()[1]) as cable:
        near = socket.create_connection((_HOST, cable.port))
        far, _ = server.accept()
        with near, far:
            cable.cut()
            near.sendall(b"lost")
            cable.mend(reset=True)
            for end in (far, near):
                with pytest.raises(ConnectionResetError):
                    end.recv(10)


def test_where_nobody_listens_a_connection_ends_and_a_later_one_goes_through() -> None:
    with socket.create_server((_HOST, 0)) as server:
        port = server.getsockname()[1]
    with Cable(port) as cable:
        with socket.create_connection((_HOST, cable.port)) as early:
            assert early.recv(10) == b""
        with socket.create_server((_HOST, port)) as server, socket.create_connection((_HOST, cable.port)) as near:
            far, _ = server.accept()
            with far:
                near.sendall(b"one")
                assert far.recv(10) == b"one"
