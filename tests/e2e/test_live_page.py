"""The live page in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.snapshot import CAMERA_STATES
from fgmclip.client.web.page import LivePage

OUT = Path(__file__).resolve().parents[2] / "out"
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


class Visit:
    """A page that is open, and what it did that it should not."""

    def __init__(self, page: Page, live: LivePage) -> None:
        self.page = page
        self.foreign: list[str] = []
        self.errors: list[str] = []
        own = urlsplit(live.url).netloc

        def route(route: Route) -> None:
            address = urlsplit(route.request.url)
            if address.scheme != "data" and address.netloc != own:
                self.foreign.append(route.request.url)
                route.abort()
            else:
                route.continue_()

        def hear(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.errors.append(message.text)

        page.context.route("**/*", route)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", hear)
        page.goto(live.url)


def decide(board: Board, name: str, label: str, probability: float = 0.9) -> None:
    top = ((label, probability), ("kick", 0.06), ("push", 0.04))
    for _ in range(2):
        time = board.snapshot().time
        board.camera(name).decided(time, label, probability, None, 0.2, 1, top)


@pytest.fixture
def board() -> Board:
    board = Board()
    for number in range(8):
        name = f"camera-{number}"
        board.camera(name).opened("rtsp://cam/live", 848, 480, "wall")
        board.camera(name).became("live")
        decide(board, name, "wave")
    board.watch("endpoints", lambda: (EndpointStatus("h:1", True, 9, 0, 0, 1, 0),))
    return board


@pytest.fixture
def live(board: Board) -> Iterator[LivePage]:
    live = LivePage(board, 0)
    live.start()
    yield live
    live.stop()


@pytest.fixture
def visit(browser: Browser, live: LivePage) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1500, "height": 950})
    context.set_default_timeout(10_000)
    yield Visit(context.new_page(), live)
    context.close()


def test_cameras_and_their_actions_are_shown_and_follow_the_board(
    visit: Visit, board: Board
) -> None:
    page = visit.page
    door = page.get_by_role("article", name="camera-3")
    expect(page.get_by_role("article")).to_have_count(8)
    expect(door.locator(".action")).to_have_text("wave 90 %")
    decide(board, "camera-3", "hand shake", 0.8)
    expect(door.locator(".action")).to_have_text("hand shake 80 %")
    expect(door.get_by_role("list", name="Likeliest actions")).to_contain_text("kick")
    assert door.locator("svg g path").count() == 2
    expect(page.locator("[aria-live]")).to_contain_text("camera-3: hand shake")
    board.camera("camera-3").became("reconnecting", "timed out")
    expect(door).to_contain_text("reconnecting")
    expect(door).to_contain_text("timed out")
    expect(page.locator("#summary")).to_have_text("8 cameras: 7 live, 1 reconnecting")
    board.remove("camera-3")
    expect(page.get_by_role("article")).to_have_count(7)
    OUT.mkdir(exist_ok=True)
    page.screenshot(path=OUT / "live_page.png", full_page=True)
    assert visit.errors == []
    assert visit.foreign == []


def test_names_are_text_and_never_markup(visit: Visit, board: Board) -> None:
    board.camera(HOSTILE).became("failed", HOSTILE)
    decide(board, HOSTILE, HOSTILE)
    board.camera(HOSTILE).evented(
        Event("e", HOSTILE, HOSTILE, HOSTILE, 1.0, None, 0.9, 1.0, "open", "wall", "tag")
    )
    page = visit.page
    expect(page.locator("h2", has_text="<img src=x")).to_have_text(HOSTILE)
    expect(page.locator("#events .what")).to_have_text(HOSTILE)
    assert page.evaluate("window.hit") is None
    assert page.locator("main img, main script, aside img").count() == 0
    assert visit.errors == []
    assert visit.foreign == []


def test_a_gateway_that_is_gone_is_said_until_it_is_back(
    visit: Visit, board: Board, live: LivePage
) -> None:
    page = visit.page
    notice = page.get_by_role("alert")
    expect(page.get_by_role("article")).to_have_count(8)
    expect(notice).to_be_hidden()
    assert visit.errors == []
    live.stop()
    expect(notice).to_contain_text("No connection to the gateway")
    decide(board, "camera-1", "push")
    again = LivePage(board, urlsplit(live.url).port or 0)
    again.start()
    try:
        expect(notice).to_be_hidden()
        expect(page.get_by_role("article", name="camera-1").locator(".action .label")).to_have_text(
            "push"
        )
    finally:
        again.stop()


@pytest.mark.parametrize("cameras", [8, 30])
def test_a_narrow_page_does_not_scroll_sideways(visit: Visit, board: Board, cameras: int) -> None:
    for number in range(cameras):
        decide(board, f"camera-{number}", "a name of an action that is much too long for a card")
    page = visit.page
    page.set_viewport_size({"width": 400, "height": 800})
    expect(page.get_by_role("article")).to_have_count(cameras)
    page.locator("#services summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#servers")).to_contain_text("h:1")
    assert page.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(
    visit: Visit, board: Board, contrast: str, scheme: Literal["light", "dark"]
) -> None:
    for number, state in enumerate(CAMERA_STATES):
        board.camera(f"camera-{number}").became(state, "" if state == "idle" else "a cause")
    # Two dozen actions have every colour that there is.
    for number in range(24):
        decide(board, f"more-{number}", f"action {number}")
    visit.page.emulate_media(color_scheme=scheme)
    expect(visit.page.get_by_role("article")).to_have_count(32)
    assert visit.page.evaluate(f"() => {{ {contrast} return found; }}") == []
