"""People at a browser: headless Chromium, whose complaints fail the test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.integration.console.world import World

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 60_000
SERIOUS = ("serious", "critical")
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`content policy: ${event.violatedDirective} refused ${event.blockedURI} ${event.sample}`);
});
"""


@contextmanager
def open_browser() -> Iterator[Browser]:
    """The system's Chromium; the test is skipped where there is none."""
    program = os.environ.get("ILF_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium on the PATH (apt-get install chromium), and ILF_TEST_CHROMIUM names none")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Person:
    """Somebody at a browser of their own.

    Attributes:
        name: As the console knows the person.
        world: Whose console is visited.
        context: The browser's storage, cookies included.
        page: The tab that is open.
        complaints: What the browser has complained about.
        expected: Patterns of complaints that a test asks for.
    """

    name: str
    world: World
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, browser: Browser, world: World, name: str, *, phone: bool = False, dark: bool = False) -> Person:
        """A person at a browser, not signed in yet."""
        context = browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            has_touch=phone,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            ignore_https_errors=bool(world.https_port),
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_TELL_VIOLATIONS)
        person = cls(name, world, context, context.new_page())
        person._listen(person.page)
        return person

    def sign_in(self, tab: Page | None = None) -> Person:
        """Opens the address with the token, in another tab where one is given, and gives the name."""
        page = tab or self.page
        page.goto(f"{self.world.place.sign_in_url}&next=/annotate")
        page.get_by_label("Your name").fill(self.name)
        page.get_by_role("button", name="Come in").click()
        page.wait_for_url("**/annotate")
        return self

    def open(self, path: str) -> Page:
        """Opens a page of the console in the tab."""
        self.page.goto(f"{self.world.url}{path}")
        return self.page

    def open_tab(self, path: str) -> Page:
        """Opens a page of the console in another tab."""
        page = self.context.new_page()
        self._listen(page)
        page.goto(f"{self.world.url}{path}")
        return page

    def expect_complaints(self, *patterns: str) -> None:
        """The test asks for complaints like these, such as those on a refused request."""
        self.expected += patterns

    def leave(self) -> None:
        """Closes the browser; fails if it had complaints that nobody expected."""
        self.context.close()
        surprises = [text for text in self.complaints if not any(re.search(one, text) for one in self.expected)]
        assert surprises == [], f"{self.name}'s browser complained"

    def _listen(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("dialog", self._see_dialog)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.page.url if message.page else ''}: {message.text}")

    def _see_dialog(self, dialog: Dialog) -> None:
        # Nothing in the console asks by a dialog of the browser: a text was taken for a script.
        self.complaints.append(f"{self.page.url}: dialog {dialog.message}")
        dialog.dismiss()


def accessibility_faults(page: Page) -> list[str]:
    """Serious and critical findings of axe on the page as it is, each with its element."""
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url} {one['id']}: {one['help']}: {node['html']}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
