"""Asking a trainer to stop."""

from __future__ import annotations


class StopFlag:
    """Set by the signal handler; read between two steps."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, *_: object) -> None:
        """Asks for an end at the next step; has the shape of a signal handler."""
        self.requested = True
