"""Annotators at work: what they type is never lost, and arrives once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from playwright.sync_api import Page, Route, expect

from tests.integration.console.browsing import Person, accessibility_faults
from tests.integration.console.world import World, made_rows, wait_until

QUESTION = "What is wrong with the output"
PEOPLE = 50
NASTY = '<script>alert(1)</script> <img src=x onerror=alert(2)> \u202egnirts\u202c مرحبا {{ 7*7 }} & "quotes"'


def desk(run: str, path: str = "/annotate") -> str:
    return f"{path}?run={run}"


def answers(world: World, run: str) -> Sequence[str]:
    """The feedback that the run's samples have, by item."""
    with world.client() as client:
        return [sample.feedback for sample in client.runs.samples(f"runs/{run}", iteration=1)]


def answer(page: Page, text: str) -> None:
    page.get_by_label(QUESTION).fill(text)
    page.keyboard.press("Control+Enter")


def test_what_is_typed_is_in_the_samples_of_the_run_that_goes_on(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("typed", made_rows("typed", 2), people={"guidelines": "Be short.\nBe kind."})
    page = person("Ann").open(desk("typed"))
    expect(page.get_by_label("Context", exact=True)).to_contain_text("typed context 0")
    expect(page.get_by_label("Guidelines", exact=True)).to_contain_text("Be kind.")
    answer(page, "Shorter, please.")
    expect(page.get_by_label("Context", exact=True)).to_contain_text("typed context 1")
    expect(page.get_by_text("1 of 2")).to_be_visible()
    answer(page, "Kinder, please.")
    expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    assert world.ended("runs/typed").state.value == "succeeded"
    assert answers(world, "typed") == ["Shorter, please.", "Kinder, please."]


def test_everything_goes_by_keys(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("keys", made_rows("keys", 3))
    page = person("Ann").open(desk("keys"))
    context = page.get_by_label("Context", exact=True)
    expect(page.get_by_label(QUESTION)).to_be_focused()
    page.keyboard.type("By keys alone.")
    page.keyboard.press("Alt+1")
    page.keyboard.press("Control+Enter")
    expect(context).to_contain_text("keys context 1")
    page.keyboard.press("Alt+n")
    expect(context).to_contain_text("keys context 2")
    page.keyboard.press("Alt+p")
    expect(page.get_by_text("You are changing an answer")).to_be_visible()
    page.keyboard.press("Alt+p")
    expect(page.get_by_label(QUESTION)).to_have_value("By keys alone.")
    page.keyboard.press("Control+a")
    page.keyboard.type("Changed by keys.")
    page.keyboard.press("Control+Enter")
    expect(context).to_contain_text("keys context 2")
    page.keyboard.press("Alt+s")
    expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    with world.client() as client:
        latest = {task.item_id: task for task in client.answers.latest("Ann", run="runs/keys")}
    assert latest["keys-0"].feedback == "Changed by keys."  # type: ignore[union-attr]
    assert list(latest["keys-0"].flags) == ["unclear"]
    assert latest["keys-1"].feedback == latest["keys-1"].nothing_to_change != ""  # type: ignore[union-attr]


def test_a_draft_survives_a_reload_and_another_task(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("drafts", made_rows("drafts", 2))
    page = person("Ann").open(desk("drafts"))
    page.get_by_label(QUESTION).fill("Half a thou")
    page.reload()
    expect(page.get_by_label(QUESTION)).to_have_value("Half a thou")
    expect(page.get_by_text("Your draft of")).to_be_visible()


def test_a_server_that_restarts_loses_nothing_that_was_typed(own_world: World, person: Callable[..., Person]) -> None:
    own_world.start()
    own_world.create_waiting("restart", made_rows("restart", 2))
    ann = person("Ann", own_world)
    ann.expect_complaints("Failed to load resource", "ERR_CONNECTION")
    page = ann.open(desk("restart"))
    page.get_by_label(QUESTION).fill("Written before the restart.")
    own_world.stop("console")
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_text("Not sent yet")).to_be_visible()
    own_world.start("console")
    expect(page.get_by_label("Context", exact=True)).to_contain_text("restart context 1")
    with own_world.client() as client:
        (task,) = client.answers.latest("Ann", run="runs/restart")
    assert task.feedback == "Written before the restart."  # type: ignore[union-attr]


@pytest.mark.slow
def test_fifty_open_pages_lose_nothing_when_the_server_restarts(
    own_world: World, person: Callable[..., Person]
) -> None:
    own_world.start()
    own_world.create_waiting("fifty", made_rows("fifty", PEOPLE))
    typed: dict[str, str] = {}
    people: list[Person] = []
    for number in range(PEOPLE):
        one = person(f"person-{number}", own_world)
        one.expect_complaints("Failed to load resource", "ERR_CONNECTION")
        text = typed[one.name] = f"Written by {one.name} before the restart."
        one.open(desk("fifty")).get_by_label(QUESTION).fill(text)
        people.append(one)
    own_world.stop("console")
    for one in people:
        one.page.get_by_label(QUESTION).press("Control+Enter")
        expect(one.page.get_by_text("Not sent yet")).to_be_visible()
    own_world.start("console")
    with own_world.client() as client:
        wait_until(lambda: client.answers.progress(run="fifty").feedback.done == PEOPLE, "the answers")
        said = {task.annotator: task.feedback for task in client.feedback.show(run="fifty")}
    assert said == typed


def test_a_service_that_is_down_is_named_and_the_page_goes_on_when_it_is_back(
    own_world: World, person: Callable[..., Person]
) -> None:
    own_world.start()
    own_world.create_waiting("down", made_rows("down", 2))
    ann = person("Ann", own_world)
    ann.expect_complaints("status of 503")
    page = ann.open(desk("down"))
    page.get_by_label(QUESTION).fill("Typed while nobody listened.")
    own_world.stop("orchestrator")
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_text(re.compile("Not sent yet.*Orchestrator does not answer"))).to_be_visible(timeout=30_000)
    stranded = ann.open_tab(desk("down"))
    expect(stranded.get_by_role("heading", name="A service does not answer")).to_be_visible(timeout=30_000)
    expect(stranded.get_by_text("Orchestrator does not answer")).to_be_visible()
    own_world.start("orchestrator")
    expect(page.get_by_label("Context", exact=True)).to_contain_text("down context 1", timeout=30_000)
    expect(stranded.get_by_role("heading", name="Annotate")).to_be_visible(timeout=30_000)


@pytest.mark.parametrize("room", [True, False], ids=["room", "no-room"])
def test_a_retry_is_the_same_request_and_an_edit_is_another(
    person: Callable[..., Person], world: World, room: bool
) -> None:
    run = f"again-{int(room)}"
    world.create_waiting(run, made_rows(run, 2))
    ann = person("Ann")
    ann.expect_complaints("ERR_FAILED")
    page = ann.open(desk(run))
    if not room:
        page.evaluate("void (Storage.prototype.setItem = () => { throw new Error('no room') })")
    sent: list[tuple[str, str]] = []

    def lose(route: Route) -> None:
        body = route.request.post_data_json
        sent.append((body["feedback"], body["request_id"]))
        route.abort()

    page.route("**/annotate/answers", lose)
    for text in ("First.", "Second.", "First."):
        before = len(sent)
        answer(page, text)
        page.get_by_role("button", name="Try now").click()
        wait_until(lambda before=before: page.wait_for_timeout(50) or len(sent) >= before + 2, "the second try")
    assert [text for text, _ in dict.fromkeys(sent)] == ["First.", "Second.", "First."]
    assert len({number for _, number in sent}) == 3


def test_what_could_not_be_sent_is_never_sent_for_another_task(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("turned", made_rows("turned", 2))
    ann = person("Ann")
    ann.expect_complaints("ERR_FAILED")
    page = ann.open(desk("turned"))
    answer(page, "First.")
    expect(page.get_by_label("Context", exact=True)).to_contain_text("turned context 1")
    page.route("**/annotate/answers", lambda route: route.abort())
    page.keyboard.press("Alt+s")
    expect(page.get_by_text("Not sent yet")).to_be_visible()
    page.unroute("**/annotate/answers")
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_label(QUESTION)).to_have_value("First.")
    page.wait_for_timeout(5000)
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run="runs/turned")
    assert task.feedback == "First."  # type: ignore[union-attr]


def test_an_impatient_click_answers_once(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("double", made_rows("double", 3))
    page = person("Ann").open(desk("double"))
    page.get_by_label(QUESTION).fill("Once.")
    page.get_by_role("button", name="Submit").dblclick()
    expect(page.get_by_label("Context", exact=True)).to_contain_text("double context 1")
    expect(page.get_by_text("1 of 3")).to_be_visible()
    with world.client() as client:
        assert len(client.answers.latest("Ann", run="runs/double")) == 1


def test_two_tabs_of_one_person_agree(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("tabs", made_rows("tabs", 2))
    ann = person("Ann")
    one, two = ann.open(desk("tabs")), ann.open_tab(desk("tabs"))
    for page in (one, two):
        expect(page.get_by_label("Context", exact=True)).to_contain_text("tabs context 0")
    answer(one, "Said in the first tab.")
    for page in (one, two):
        expect(page.get_by_label("Context", exact=True)).to_contain_text("tabs context 1")
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run="runs/tabs")
    assert task.feedback == "Said in the first tab."  # type: ignore[union-attr]


def test_two_people_never_have_the_same_task(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("apart", made_rows("apart", 2))
    ann, bob = person("Ann").open(desk("apart")), person("Bob").open(desk("apart"))
    expect(ann.get_by_label("Context", exact=True)).to_contain_text("apart context 0")
    expect(bob.get_by_label("Context", exact=True)).to_contain_text("apart context 1")


def test_the_back_button_leads_to_the_task_and_answers_nothing(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("back", made_rows("back", 2))
    page = person("Ann").open(desk("back"))
    answer(page, "First.")
    context = page.get_by_label("Context", exact=True)
    expect(context).to_contain_text("back context 1")
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_label(QUESTION)).to_have_value("First.")
    page.go_back()
    expect(context).to_contain_text("back context 1")
    expect(page.get_by_label(QUESTION)).to_have_value("")
    page.go_forward()
    expect(page.get_by_label(QUESTION)).to_have_value("First.")


def test_a_lease_that_went_to_somebody_else_is_told_and_the_text_stays(
    person: Callable[..., Person], world: World
) -> None:
    world.create_waiting("expiry", made_rows("expiry", 1), feedback={"source": "people", "lease": "2s"})
    ann = person("Ann")
    ann.expect_complaints("ERR_INTERNET_DISCONNECTED", "status of 409")
    page = ann.open(desk("expiry"))
    page.get_by_label(QUESTION).fill("Too slow, but mine.")
    ann.context.set_offline(True)
    with world.client() as client:
        wait_until(lambda: client.feedback.lease("Bob", run="runs/expiry").tasks, "the end of the lease")
    ann.context.set_offline(False)
    page.get_by_label(QUESTION).press("Control+Enter")
    expect(page.get_by_text("went to somebody else")).to_be_visible()
    expect(page.get_by_label(QUESTION)).to_have_value("Too slow, but mine.")
    expect(page.get_by_role("button", name="Copy what you typed")).to_be_visible()


def test_an_open_page_holds_on_to_its_lease(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("held", made_rows("held", 1), feedback={"source": "people", "lease": "16s"})
    page = person("Ann").open(desk("held"))
    with page.expect_response(lambda response: response.url.endswith("/annotate/lease")) as renewed:
        page.get_by_label(QUESTION).fill("Still thinking.")
    assert renewed.value.json()["held"] and renewed.value.json()["lease_seconds"] > 10


@pytest.mark.parametrize(
    "text", [NASTY, "word " * 10_000, "  \n in the middle \n\n of blanks \n  "], ids=["nasty", "long", "blank"]
)
def test_any_text_arrives_as_it_was_typed_and_is_shown_as_text(
    text: str, person: Callable[..., Person], world: World, request: pytest.FixtureRequest
) -> None:
    run = f"texts-{request.node.callspec.id}"
    world.create_waiting(run, [{"id": "0", "context": f"{NASTY}\u0007"}, {"id": "1", "context": "plain"}])
    page = person("Ann").open(desk(run))
    shown = page.get_by_label("Context", exact=True)
    expect(shown).to_contain_text("<script>alert(1)</script>")
    expect(shown).to_contain_text("⟨U+202E⟩")
    expect(shown).to_contain_text("␇")
    answer(page, text)
    expect(shown).to_contain_text("plain")
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run=f"runs/{run}")
    assert task.feedback.strip() == text.strip()  # type: ignore[union-attr]
    expect(page.get_by_role("link", name=text.split()[0])).to_be_visible()
    assert page.locator("script:not([src]), img[src=x]").count() == 0


@pytest.mark.parametrize(
    "text, told", [("x" * 200_001, "200"), ("a bell \u0007", "U+0007")], ids=["too-long", "control"]
)
def test_a_text_that_cannot_be_taken_is_refused_beside_the_field_and_stays(
    text: str, told: str, person: Callable[..., Person], world: World, request: pytest.FixtureRequest
) -> None:
    run = f"refused-{request.node.callspec.id}"
    world.create_waiting(run, made_rows("refused", 1))
    ann = person("Ann")
    ann.expect_complaints("status of 400")
    page = ann.open(desk(run))
    answer(page, text)
    expect(page.get_by_role("alert")).to_contain_text(told)
    assert page.get_by_label(QUESTION).input_value() == text


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_accessible(person: Callable[..., Person], world: World, dark: bool, phone: bool) -> None:
    run = f"axe-{int(dark)}{int(phone)}"
    world.create_waiting(run, made_rows("axe", 1), people={"guidelines": "Be short."})
    page = person("Ann", dark=dark, phone=phone).open(desk(run))
    assert accessibility_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


def test_a_phone_is_enough(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("phone", made_rows("phone", 2), people={"guidelines": "Be short."})
    page = person("Ann", phone=True).open(desk("phone"))
    page.get_by_role("link", name="Guidelines").tap()
    expect(page.get_by_label("Guidelines", exact=True)).to_be_in_viewport()
    page.get_by_label(QUESTION).tap()
    page.get_by_label(QUESTION).fill("Typed on a phone.")
    page.get_by_text("Flag a problem").tap()
    page.get_by_label("unclear").tap()
    page.get_by_role("button", name="Submit").tap()
    expect(page.get_by_label("Context", exact=True)).to_contain_text("phone context 1")
    page.get_by_role("button", name="Nothing to change").tap()
    expect(page.get_by_role("heading", name="Nothing to do here now")).to_be_visible()
    assert world.ended("runs/phone").state.value == "succeeded"
    assert answers(world, "phone")[0] == "Typed on a phone."
    assert re.search(r'"who": "Ann", "role": "engineer", "action": "submit"', world.log("console"))


def test_a_connection_that_is_lost_loses_nothing(person: Callable[..., Person], world: World) -> None:
    world.create_waiting("offline", made_rows("offline", 2))
    ann = person("Ann")
    ann.expect_complaints("ERR_INTERNET_DISCONNECTED")
    page = ann.open(desk("offline"))
    ann.context.set_offline(True)
    answer(page, "Typed without a connection.")
    expect(page.get_by_text(re.compile("Not sent yet.*Your connection is lost"))).to_be_visible()
    ann.context.set_offline(False)
    expect(page.get_by_label("Context", exact=True)).to_contain_text("offline context 1")
    with world.client() as client:
        (task,) = client.answers.latest("Ann", run="runs/offline")
    assert task.feedback == "Typed without a connection."  # type: ignore[union-attr]
