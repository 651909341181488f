"""The page in a real browser, by keyboard alone, in both colour schemes and on a narrow screen."""

import os
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

import recsys
from recsys.server.app import make_app
from recsys.server.settings import ServerSettings

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
POINTS = """part,granularity,codec,keep,ranking,ndcg,kept,hot_bytes,cold_bytes,multiply_adds
valid,8,fp32,10,8,0.2,1.0,32,0,240
valid,4,fp32,20,8,0.19,0.95,16,16,200
valid,4,int8,10,8,0.15,0.75,8,16,160
"""


@contextmanager
def listening(settings):
    """The address of a server in a thread."""
    server = uvicorn.Server(uvicorn.Config(make_app(settings), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    (run / "tradeoff").mkdir(exist_ok=True)
    (run / "tradeoff" / "tradeoff.csv").write_text(POINTS, "utf-8")
    out = tmp_path_factory.mktemp("page") / "b"
    tiers = "0:4:fp32:ram,4:8:fp32:mmap"
    recsys.export(run, out, tiers=tiers, columns=("title", "genres"), stages="4:20,8")
    with listening(ServerSettings(bundle=out, threads=1, logs=False, watch=0)) as place:
        yield place


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, address):
    """The opened page; nothing may go wrong in it, and nothing may be fetched from elsewhere."""
    opened, wrong = browser.new_page(), []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "console",
        lambda line: (
            wrong.append(line.text) if line.type == "error" and "404" not in line.text else None
        ),
    )
    opened.on(
        "request",
        lambda asked: None if asked.url.startswith((address, "data:")) else wrong.append(asked.url),
    )
    opened.goto(address)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    assert wrong == []
    opened.close()


def tab_to(page, name, most=30):
    """Goes on by the tab key until an element has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"{name} is not reached by the keyboard")


def titles(page, name):
    return page.eval_on_selector_all(
        f"#{name} li > span:first-child", "all => all.map(each => each.firstChild.data)"
    )


def settled(page):
    """Waits until every list is of what is on the page now."""
    page.wait_for_selector("#lists[aria-busy=false]")


def wait_for(page, text):
    page.wait_for_function(
        "text => document.getElementById('note').textContent.includes(text)", arg=text
    )


def test_search_add_slide_and_compare_by_keyboard_alone(page, model):
    wait_for(page, "the most popular items")
    assert titles(page, "full")[0] == "The film 7"
    tab_to(page, "title")
    page.keyboard.type("film 12")
    page.wait_for_selector("#found[aria-busy=false] [aria-selected=true]")
    page.keyboard.press("Enter")
    wait_for(page, "items are the same")
    page.keyboard.type("film 2")
    page.wait_for_selector("#found[aria-busy=false] #found-1")
    page.keyboard.press("ArrowDown")
    second = page.inner_text("#found-1")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('#history li').length === 2")
    settled(page)
    assert page.inner_text("#took").endswith("ms")
    history = ["film 12", second.removeprefix("The ")]
    for size, name in ((8, "full"), (8, "short")):
        wanted = model.recommend(histories={"x": history}, granularity=size)["item_id"]
        assert titles(page, name) == [f"The {item}" for item in wanted]
    assert page.inner_text("#overlap") == "10 of 10"
    tab_to(page, "size")
    page.keyboard.press("ArrowLeft")
    wanted = model.recommend(histories={"x": history}, granularity=4)["item_id"].to_list()
    full = model.recommend(histories={"x": history}, granularity=8)["item_id"].to_list()
    assert titles(page, "short") == [f"The {item}" for item in wanted]
    assert page.inner_text("#overlap") == f"{len(set(wanted) & set(full))} of 10"
    assert page.inner_text("#bytes") == "16"
    assert page.inner_text("#work") == "120"
    assert page.get_attribute("#size", "aria-valuetext") == "4 of 8 coordinates"


def held(page, pattern):
    """Requests of a pattern wait here until the test lets them go on."""
    waiting = []
    page.route(pattern, lambda route: waiting.append(route))
    return waiting


def test_answers_of_an_older_text_are_never_picked(page):
    tab_to(page, "title")
    page.keyboard.type("film")
    page.wait_for_selector("#found[aria-busy=false] #found-1")
    waiting = held(page, "**/v1/items?*")
    page.keyboard.type(" 12")
    assert page.get_attribute("#found", "aria-busy") == "true"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#history button").count() == 0
    while len(waiting) < 3:
        page.wait_for_timeout(20)
    for request in reversed(waiting):  # the newest first: older ones come late
        request.continue_()
    page.wait_for_selector("#found[aria-busy=false] [aria-selected=true]")
    page.wait_for_load_state("networkidle")
    assert page.inner_text("#found-0") == "The film 12"
    page.keyboard.press("Enter")
    page.wait_for_selector("#history button")
    assert page.inner_text("#history li span") == "The film 12"


def test_the_user_asked_for_last_is_shown(page):
    waiting = held(page, "**/v1/users/u*")
    for user in ("u5", "u7"):
        page.fill("#user", user)
        page.press("#user", "Enter")
    while len(waiting) < 2:
        page.wait_for_timeout(20)
    for request in reversed(waiting):
        request.continue_()
    page.wait_for_load_state("networkidle")
    settled(page)
    assert "u7" in page.inner_text("#history-name")


def test_an_unknown_user_does_not_stop_the_lists_under_way(page):
    waiting = held(page, "**/v1/recommend")
    page.fill("#user", "u5")
    page.press("#user", "Enter")
    while not waiting:
        page.wait_for_timeout(20)
    page.fill("#user", "nobody")
    page.press("#user", "Enter")
    wait_for(page, "has no user 'nobody'")
    for _ in range(250):  # the lists of both sizes, one after the other
        if page.get_attribute("#lists", "aria-busy") == "false":
            break
        while waiting:
            waiting.pop().continue_()
        page.wait_for_timeout(20)
    settled(page)
    assert len(titles(page, "full")) == len(titles(page, "short")) == 10


def test_a_user_is_shown_and_a_category_narrows_the_lists(page, model):
    tab_to(page, "user")
    page.keyboard.type("u5")
    page.keyboard.press("Enter")
    wait_for(page, "items are the same")
    settled(page)
    assert titles(page, "full") == [
        f"The {x}" for x in model.recommend(["u5"], granularity=8)["item_id"]
    ]
    assert "u5" in page.inner_text("#history-name")
    page.select_option("#filter-genres", "War")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#full .more')].every(x => x.textContent === 'War')"
    )
    settled(page)
    assert 0 < len(titles(page, "full")) <= 7
    page.fill("#user", "nobody")
    page.press("#user", "Enter")
    wait_for(page, "has no user 'nobody'")
    page.click("#clear")
    assert page.input_value("#user") == "", "the lists are of nobody"


def test_the_served_funnel_is_marked_in_the_plot(page):
    assert page.locator("#plot .point").count() == 3
    ring = page.locator("#plot .served")
    points = page.locator("#plot .point")
    assert ring.get_attribute("cx") == points.nth(1).get_attribute("cx")
    assert "served: 4:20,8" in page.inner_html("#plot")
    assert page.locator("#plot .tick").all_text_contents() == ["8", "10", "15", "20", "30"]
    assert page.locator("#plot .quality").all_text_contents() == [".1600", ".1800", ".2000"]
    before = ring.get_attribute("cx")
    page.check("input[value=multiply_adds]")
    assert page.locator("#plot .served").get_attribute("cx") != before


def luminance(colour):
    """Of rgb(r, g, b), as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    lit = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_colour_schemes(page, scheme):
    page.emulate_media(color_scheme=scheme)
    colour = "([name, part]) => getComputedStyle(document.querySelector(name))[part]"
    card = luminance(page.evaluate(colour, [".card", "backgroundColor"]))
    assert (card > 0.5) == (scheme == "light")
    for name in ("h2", "h3", "label", ".more", "#note"):
        text = luminance(page.evaluate(colour, [name, "color"]))
        high, low = max(card, text), min(card, text)
        assert (high + 0.05) / (low + 0.05) > 4.5, name


def test_nothing_is_cut_off_on_a_narrow_screen(page):
    page.set_viewport_size({"width": 340, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 340
    wide = """all => all.filter(each => each.getBoundingClientRect().right > 340
        || each.scrollWidth > each.clientWidth + 1).map(each => each.id || each.textContent)"""
    assert page.eval_on_selector_all("button, .card, #facts dd", wide) == []


def test_the_page_asks_for_the_key(browser, shelf, monkeypatch):
    monkeypatch.setenv("RECSYS_API_KEY", "secret")
    with listening(ServerSettings(bundle=shelf, threads=1, logs=False, watch=0)) as place:
        opened = browser.new_page()
        opened.goto(place)
        opened.wait_for_selector("#key-dialog[open]")
        opened.keyboard.type("secret")
        opened.keyboard.press("Enter")
        opened.wait_for_selector("body[data-ready]")
        assert opened.locator("#full li").count() == 10
        opened.close()
