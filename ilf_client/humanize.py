"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime


def since(moment: datetime | None) -> str:
    """How long ago, in two units at most."""
    return "" if moment is None else duration((datetime.now(UTC) - moment).total_seconds())


def between(start: datetime | None, end: datetime | None) -> str:
    """How long something took, or has taken so far."""
    return "" if start is None else duration(((end or datetime.now(UTC)) - start).total_seconds())


def duration(seconds: float) -> str:
    """`0.4s`, `42s`, `3m12s`, `2h05m`, `3d04h`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
