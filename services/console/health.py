"""Which of the five services answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from ilf_client.stack.health import Health, HealthProbe
from services.console.settings import ServicesSettings

_PROBE_SECONDS = 1.5


async def services_down(settings: ServicesSettings) -> Sequence[str]:
    """The names of the services that do not serve now; all are asked at once."""
    addresses = asdict(settings.endpoints)
    found = await asyncio.gather(*(_ask(address, settings) for address in addresses.values()))
    return [name for name, health in zip(addresses, found, strict=True) if health is not Health.SERVING]


async def _ask(address: str, settings: ServicesSettings) -> Health:
    probe = HealthProbe.at(address, settings.security)
    try:
        return await probe.ask(_PROBE_SECONDS)
    finally:
        await probe.channel.close()
