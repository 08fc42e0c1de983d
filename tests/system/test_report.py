"""The report in a real browser: runs of several kinds, opened from disk without a network, looked at and used."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.browser import chromium, complaints, open_page, picture, theme
from tests.training import REPOSITORY, small, table

_MOST_BYTES = 15_000_000


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    """A small sssom on digits that made its own report at its end."""
    from pipeline.training.trainer import train

    folder = tmp_path_factory.mktemp("report") / "run"
    train(small("sssom", digits, tracking__report=True, map__epochs=4), folder)
    return folder


def _tab(driver, key):
    driver.find_element("id", f"tab-{key}").click()
    assert driver.find_element("id", f"panel-{key}").is_displayed()


def _text(driver, name):
    return driver.find_element("id", name).text


def _click_node(driver, node):
    """Clicks with the mouse on the place of a node of the map."""
    from selenium.webdriver import ActionChains

    x, y = driver.execute_script(
        "const g = document.getElementById('map'); g.scrollIntoView({block: 'center'});"
        "const l = g._fullLayout, [u, v] = R.at.map[arguments[0]], b = g.getBoundingClientRect();"
        "return [b.left + l.xaxis._offset + l.xaxis.l2p(u), b.top + l.yaxis._offset + l.yaxis.l2p(v)];",
        node,
    )
    actions = ActionChains(driver)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y)).pause(0.3).click()
    actions.perform()


_EMPTY_SPOT = """
const g = document.getElementById('embedding-pca'), l = g._fullLayout;
g.scrollIntoView({block: 'center'});
const b = g.getBoundingClientRect();
const area = g._fullData.find((t) => t.name === 'regions'), dots = [];
for (const t of g._fullData.filter((t) => t.type === 'scatter' && t.x)) t.x.forEach((u, n) =>
  dots.push([l.xaxis.l2p(u), l.yaxis.l2p(t.y[n])]));
let best = [0];
for (let r = 0; r < area.y.length; r += 4) for (let c = 0; c < area.x.length; c += 4) {
  const x = l.xaxis.l2p(area.x[c]), y = l.yaxis.l2p(area.y[r]), node = area.customdata[r][c];
  if (node < 0 || x < 0 || y < 0 || x > l.xaxis._length || y > l.yaxis._length) continue;
  const room = Math.min(...dots.map(([u, v]) => Math.hypot(u - x, v - y)));
  if (room > best[0]) best = [room, b.left + l.xaxis._offset + x, b.top + l.yaxis._offset + y, node];
}
return best;
"""


def test_a_click_on_a_region_shows_its_node(run, browser):
    from selenium.webdriver import ActionChains

    open_page(browser, run / "report.html")
    _tab(browser, "embedding")
    _, x, y, node = browser.execute_script(_EMPTY_SPOT)
    wanted = browser.execute_script("return R.nodes[arguments[0]].id", node)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y)).pause(0.5)
    actions.perform()
    shown = [label.text for label in browser.find_elements("css selector", ".hoverlayer .hovertext")]
    assert shown == [f"region of node {wanted}"]
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y)).pause(0.3).click()
    actions.perform()
    assert _text(browser, "node-title") == f"Node {wanted}"
    assert complaints(browser) == []


def test_a_finished_training_leaves_its_report_and_the_browser_shows_it(run, browser):
    page = run / "report.html"
    assert page.stat().st_size < _MOST_BYTES
    open_page(browser, page)
    nodes = browser.execute_script("return R.nodes")
    assert len(nodes) == json.loads((run / "run.json").read_text())["summary"]["nodes"]

    _tab(browser, "map")
    wanted = next(k for k, node in enumerate(nodes) if len(node["members"]) > 2 and k != 0)
    _click_node(browser, wanted)
    assert _text(browser, "node-title") == f"Node {nodes[wanted]['id']}"
    shown = browser.find_elements("css selector", "#members .thumb")
    assert [int(re.search(r"row (\d+)", one.get_attribute("aria-label"))[1]) for one in shown] == [
        member["r"] for member in nodes[wanted]["members"]
    ]
    assert browser.find_elements("css selector", "#portrait .thumb"), "the prototype is a picture"
    picture(browser, "map-light")

    _tab(browser, "growth")
    before = _text(browser, "moment-text")
    slider = browser.find_element("id", "moment")
    browser.execute_script("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert _text(browser, "moment-text") != before
    first = browser.execute_script("return [R.moments[0].x, document.getElementById('growth').data[2].x]")
    assert first[0] == first[1], "the chart shows the prototypes of the first moment"
    picture(browser, "growth-light")
    theme(browser, "dark")
    ink = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ink == "rgb(20, 23, 27)"
    for key in ("planes", "embedding", "scores", "run"):
        _tab(browser, key)
        picture(browser, f"{key}-dark")
    assert "--labelled-fraction 0.3" in _text(browser, "panel-run")
    theme(browser, "light")
    assert complaints(browser) == []


def test_a_narrow_window_needs_no_scrolling_to_the_side(run, browser):
    narrow = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        open_page(browser, run / "report.html")
        for key in ("map", "planes", "growth", "embedding", "scores", "run"):
            _tab(browser, key)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, key
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_reaches_everything(run, browser):
    from selenium.webdriver import Keys

    open_page(browser, run / "report.html")
    tab = browser.find_element("id", "tab-map")
    tab.send_keys(Keys.ARROW_RIGHT)
    assert browser.find_element("id", "panel-planes").is_displayed()
    browser.switch_to.active_element.send_keys(Keys.HOME)
    assert browser.find_element("id", "panel-map").is_displayed()
    seen = {_text(browser, "node-title")}
    for key in (Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.ARROW_DOWN):
        browser.find_element("id", "map").send_keys(key)
        seen.add(_text(browser, "node-title"))
    assert len(seen) > 1
    browser.find_element("id", "tab-growth").click()
    text = _text(browser, "moment-text")
    browser.find_element("id", "moment").send_keys(Keys.ARROW_LEFT)
    assert _text(browser, "moment-text") != text
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('.chart, [role=img], select, input, button')].filter("
        "e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert complaints(browser) == []


def test_a_lattice_shows_its_planes_and_its_pictures(digits, browser, tmp_path):
    from pipeline.report.make import report_of
    from pipeline.training.trainer import train

    train(small("kohonen", digits, map__lattice="hexagonal"), tmp_path / "run")
    made = report_of(str(tmp_path / "run"), tmp_path / "page.html", figures=tmp_path / "figures")
    names = {path.rsplit("/", 1)[-1] for path in made["figures"]}
    assert {f"{view}.{kind}" for view in ("map", "umatrix", "hits", "prototypes", "confusion", "embedding", "growth")
            for kind in ("png", "svg")} <= names  # fmt: skip
    open_page(browser, tmp_path / "page.html")
    browser.find_element("id", "faces").click()
    shown = "return (document.getElementById('map').layout.images || []).length"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda d: d.execute_script(shown) == 64)
    picture(browser, "lattice")
    _tab(browser, "planes")
    picture(browser, "lattice-planes")
    assert complaints(browser) == []


def test_texts_of_the_user_stay_texts(browser, tmp_path, rng):
    import numpy as np

    from pipeline.report.make import report_of
    from pipeline.training.trainer import train

    bad = np.array(["<script>boom()</script>", "{{data}} & </b>"])
    labels = rng.integers(0, 2, 120)
    features = rng.random((120, 3)) * 0.2 + 0.7 * labels[:, None]
    data = table(tmp_path / "table", features, bad[labels])
    train(small("sssom", data), tmp_path / "run")
    report_of(str(tmp_path / "run"), tmp_path / "page.html")
    open_page(browser, tmp_path / "page.html")
    assert browser.execute_script("return R.classes") == sorted(bad.tolist())
    for what in ("#bars .barlayer .point", "#members table"):
        assert browser.find_elements("css selector", what), what
    assert complaints(browser) == []


def test_the_command_writes_the_page_and_says_what_is_wrong(run, tmp_path):
    def call(*words):
        command = [sys.executable, "-m", "jobs.report", *map(str, words)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)

    done = call("--run", run, "--out", tmp_path / "page.html", "--rows", 500, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["rows"] == 500 and told["bytes"] == (tmp_path / "page.html").stat().st_size
    missing = call("--run", tmp_path, "--out", tmp_path / "other.html")
    assert missing.returncode == 2 and "map.safetensors" in missing.stderr and missing.stderr.count("\n") == 1
    assert not (tmp_path / "other.html").exists()
