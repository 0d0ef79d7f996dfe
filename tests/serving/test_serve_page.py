"""The page in a real browser: headless Chromium types, clicks and sees pictures."""

import os
import shutil
import threading
import time

import pytest

from attngan.serving.drawing_queue import DrawingQueue
from attngan.serving.server import create_app

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None and not os.environ.get("ATTNGAN_REQUIRE_BROWSER"):
    pytest.skip("no Chromium on this machine", allow_module_level=True)


@pytest.fixture(scope="module")
def address(bundle):
    import uvicorn

    app = create_app(DrawingQueue(bundle, name="birds", device="cpu", max_images=4))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    yield page
    assert all(url.startswith((address, "data:")) for url in page.asked)
    page.close()


def images(page):
    page.wait_for_selector("#pictures figure")
    return page.locator("#pictures img")


def test_type_click_and_see_pictures(page):
    page.get_by_label("Sentence").fill("a red bird")
    page.get_by_label("Pictures").fill("3")
    page.get_by_role("button", name="Draw").click()
    seen = images(page)
    assert seen.count() == 3 and page.locator("#status").inner_text() == "3 pictures: a red bird"
    assert seen.first.evaluate("image => image.complete && image.naturalWidth") == 32
    before = seen.first.get_attribute("src")
    word = page.get_by_role("button", name="red", exact=True).first
    word.click()
    assert word.get_attribute("aria-pressed") == "true" and seen.first.get_attribute("src") != before
    assert "the word red" in seen.first.get_attribute("alt")
    word.click()
    assert word.get_attribute("aria-pressed") == "false" and seen.first.get_attribute("src") == before
    with page.expect_download() as download:
        page.get_by_role("link", name="PNG").first.click()
    assert download.value.suggested_filename == "seed-1-0.png"


def test_the_keyboard_is_enough(page):
    assert page.evaluate("document.activeElement.id") == "caption"
    page.keyboard.type("a blue bird")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    assert images(page).count() == 1
    page.locator("#draw").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "blue"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_what_is_wrong_is_said_and_what_is_unknown_is_named(page):
    page.get_by_label("Sentence").fill("xyzzy")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.bad")
    assert "none of its words" in page.locator("#status").inner_text()
    page.get_by_label("Sentence").fill("a yelow bird")
    page.keyboard.press("Enter")
    images(page)
    assert "the nearest word it knows is 'yellow'" in page.locator("#notes").inner_text()
    assert page.locator("#status.bad").count() == 0


def test_under_an_error_the_pictures_of_before_are_dimmed(page):
    page.get_by_label("Sentence").fill("a red bird")
    page.keyboard.press("Enter")
    images(page)
    opacity = "getComputedStyle(document.getElementById('pictures')).opacity"
    assert page.evaluate(opacity) == "1"
    page.get_by_label("Sentence").fill("xyzzy")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.bad")
    assert float(page.evaluate(opacity)) < 0.5
    page.get_by_label("Sentence").fill("a blue bird")
    page.keyboard.press("Enter")
    page.wait_for_selector("#pictures:not(.old)")
    assert page.evaluate(opacity) == "1"


def test_an_example_is_drawn_and_another_one_from_the_next_seed(page):
    example = page.locator("#examples button").first
    assert page.get_by_label("Sentence").get_attribute("placeholder") == example.inner_text()
    example.click()
    before = images(page).first.get_attribute("src")
    assert page.get_by_label("Sentence").input_value() == example.inner_text()
    page.get_by_role("button", name="Other pictures").click()
    page.wait_for_function("before => document.querySelector('#pictures img').src !== before", arg=before)
    assert page.get_by_label("Seed").input_value() == "2"
    with page.expect_download() as download:
        page.get_by_role("link", name="PNG").first.click()
    assert download.value.suggested_filename == "seed-2-0.png"


def test_the_words_that_it_knows_are_at_hand(page):
    words = page.locator("details p")
    assert not words.is_visible()
    page.get_by_text("Words that the model knows").click()
    assert {"red", "bird", "wings"} <= set(words.inner_text().split())


def test_markup_in_a_sentence_stays_text(page):
    page.get_by_label("Sentence").fill("<img src=x onerror=document.title='harm'> a red bird <b>wing</b>")
    page.keyboard.press("Enter")
    images(page)
    assert page.locator("#status b, #status img").count() == 0 and page.title() != "harm"
    assert "<b>wing</b>" in page.locator("#status").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_scrolling_sideways(scheme, page):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_label("Sentence").fill("a red bird with blue wings " * 3)
    page.keyboard.press("Enter")
    images(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    lefts = page.evaluate("[...document.querySelectorAll('#pictures figure')].map(e => e.getBoundingClientRect().left)")
    assert len(lefts) == 4 and len(set(lefts)) == 2, "two columns"
