"""Ports of this machine that lead somewhere else: each connection is dialled anew."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from ilf_client.cluster.ports import Socket
from ilf_common.errors import IlfError

_BLOCK = 1 << 16


class Forwarder:
    """Listens on this machine and passes every connection on.

    A connection whose other end goes is closed here, so that its client dials again and reaches what has come instead.

    Args:
        dial: Opens the other end; an `IlfError` closes the connection and is told.
        tell: Called with errors of `dial`.
        port: The port to listen on; a free one where it is taken.
    """

    def __init__(self, dial: Callable[[], Socket], tell: Callable[[IlfError], None], port: int = 0) -> None:
        self._dial = dial
        self._tell = tell
        self._listener = _listen(port)
        self._connections: set[Socket] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._accept, name="forward", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def stop(self) -> None:
        """Closes the port and all connections."""
        with self._lock:
            self._stopped = True
            connections = list(self._connections)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            _end(connection)
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(here,), name="forward-connection", daemon=True).start()

    def _serve(self, here: socket.socket) -> None:
        with here:
            try:
                there = self._dial()
            except IlfError as error:
                self._tell(error)
                return
            pair = {here, there}
            with self._lock:
                stopped = self._stopped
                self._connections |= pair
            try:
                if not stopped:
                    back = threading.Thread(target=_copy, args=(there, here), name="forward-back", daemon=True)
                    back.start()
                    _copy(here, there)
                    back.join()
            finally:
                with self._lock:
                    self._connections -= pair
                there.close()


def _copy(source: Socket, target: Socket) -> None:
    """Copies until one end is closed, then closes both: half a connection is of no use to gRPC."""
    with suppress(OSError):
        while data := source.recv(_BLOCK):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(connection: Socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener
