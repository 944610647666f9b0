"""The release's console in a browser, reached as the notes of the chart say."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page

from tests.cluster.e2e.release import Release
from tests.integration.console.browsing import open_browser
from tests.support import free_ports


@contextmanager
def signed_in(release: Release, name: str) -> Iterator[Page]:
    """A page of somebody who has come in with the token of the release's Secret."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with forwarded(release, port), open_browser() as browser:
        page = browser.new_page(base_url=url)
        page.goto(f"/login?token={token(release)}&next=/runs")
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Come in").click()
        page.wait_for_url(f"{url}/runs")
        yield page


@contextmanager
def forwarded(release: Release, port: int) -> Iterator[None]:
    """The console's port on this machine, as long as it is needed."""
    service = f"service/{release.name}-console"
    command = ["kubectl", "-n", release.namespace, "port-forward", service, f"{port}:50070"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert "Forwarding from" in process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(20)


def token(release: Release) -> str:
    """What signs an engineer in where the settings name neither accounts nor a provider."""
    (secret,) = release.get("secrets", "--field-selector", f"metadata.name={release.name}-console")
    return base64.b64decode(secret["data"]["token"]).decode("ascii")
