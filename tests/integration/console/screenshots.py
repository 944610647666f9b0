"""Takes every page of the console, at two widths in both themes, over a real orchestrator with stand-ins for models.

`make screenshots`, or `python -m tests.integration.console.screenshots [--output DIR]`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize

from examples.word_removal.data import make_contexts
from ilf_client.models.tasks import Verdict
from tests.integration.console.browsing import DESKTOP, PHONE, accessibility_faults, open_browser
from tests.integration.console.world import World, judged_by

OUTPUT = Path(__file__).parents[3] / "docs" / "console"
WIDTHS: Sequence[ViewportSize] = (DESKTOP, PHONE)
GUIDELINES = """Say which words of the output are rude and have to go.

1. Name each of them; leave the others alone.
2. If none is rude, press "Nothing to change"."""
PAGES = {
    "annotate": "/annotate?run=people",
    "compare": "/compare?run=words",
    "review": "/review?run=words",
    "runs": "/runs",
    "new-run": "/runs/new",
    "run": "/runs/words",
    "samples": "/runs/words/samples?iteration=1&order_by=score",
    "plot": "/runs/words/samples/plot?iteration=1",
    "contrast": "/contrast?first=words&first_iteration=1&second=at-random&second_iteration=1",
    "contrast-metrics": "/contrast/metrics?first=words&second=at-random",
    "reliability": "/runs/words/reliability?iteration=1",
    "agreement": "/agreement?run=words",
    "jobs": "/jobs",
    "job": "{job}",
    "policies": "/policies",
    "promote": "/policies/promote?alias=production&name=words/it-2",
    "pools": "/pools",
}


def main() -> None:
    """Starts a console and what it shows, and takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ilf-screenshots-") as folder:
        world = World(Path(folder), stand_ins="tests.fakes.word_peers")
        try:
            world.start()
            make_runs(world)
            with open_browser() as browser:
                take_all(browser, world, options.output)
        finally:
            world.stop()


def make_runs(world: World) -> None:
    """Two runs that have ended, one with reviews by two people, and one that waits for people."""
    rows = [{"id": f"train-{n:03}", "context": context} for n, context in enumerate(make_contexts("train", 200))]
    tested = [{"id": f"test-{n:03}", "context": context} for n, context in enumerate(make_contexts("test", 40))]
    judged = {"tested": tested, "rank": judged_by(3), "shard_rows": 50}
    world.create_finished(
        "words", rows, iterations=2, people={"guidelines": GUIDELINES, "reviews_per_item": 2}, **judged
    )
    review(world)
    world.create_finished("at-random", rows, iterations=2, **{**judged, "rank": {"ranker": {"name": "random"}}})
    world.create_waiting("people", rows[:40], people={"guidelines": GUIDELINES}, **judged)
    with world.client() as client:
        for task in client.feedback.lease("Ann", run="runs/people", count=3).tasks:
            client.feedback.submit(task.name, "Ann", f"Leave {task.initial_output.split()[3]} out, it is rude.")
        client.policies.promote("production", "words/it-1")


def review(world: World) -> None:
    """Two people review the same refinements; they disagree now and then."""
    with world.client() as client:
        for annotator, pause in (("Ann", 7), ("Bob", 11)):
            for place, task in enumerate(client.reviews.lease(annotator, run="runs/words", count=60).tasks):
                is_in_it = not set(task.feedback.rstrip(".").split()) & set(task.refinement.rstrip(".").split())
                verdict = Verdict.YES if is_in_it else Verdict.NO
                client.reviews.submit(task.name, annotator, Verdict.PARTLY if place % pause == pause - 1 else verdict)


def take_all(browser: Browser, world: World, output: Path) -> None:
    """Every page as `<page>-<width>-<theme>.png`; says where axe finds a serious fault or a page is too wide."""
    with world.client() as client:
        job = client.runs.get("words").iterations[1].finetune_job
    for theme in ("light", "dark"):
        for size in WIDTHS:
            context = browser.new_context(viewport=size, color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
            page = context.new_page()
            ending = f"{size['width']}-{theme}.png"
            take(page, f"{world.place.sign_in_url}&next=/annotate", output / f"sign-in-{ending}")
            page.get_by_label("Your name").fill("Ann")
            page.get_by_role("button", name="Come in").click()
            page.wait_for_url("**/annotate")
            for name, path in PAGES.items():
                take(page, f"{world.url}{path.format(job=f'/{job}')}", output / f"{name}-{ending}")
            context.close()


def take(page: Page, address: str, file: Path) -> None:
    """One page, as much of it as fits on the screen."""
    page.goto(address)
    faults = accessibility_faults(page)
    if not page.evaluate("document.documentElement.scrollWidth <= innerWidth"):
        faults.append("it is wider than the screen")
    page.screenshot(path=file)
    print(f"  {file.name} {file.stat().st_size / 1024:.0f} KB {' '.join(faults)}")


if __name__ == "__main__":
    main()
