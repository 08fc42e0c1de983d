"""A headless Chromium for the tests of the report, from the distribution, without a network."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
SCREENSHOTS = Path(__file__).parent / "screenshots"


@contextlib.contextmanager
def chromium(width: int = 1366, height: int = 768) -> Iterator[Any]:
    """A driver of a fresh browser whose network is off; skips by name where the programs are absent."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("chromium and chromium-driver are absent (infra/ci/apt-packages.txt)")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="sg-chromium", ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        opened = Chrome(options=options, service=ChromeService(driver))
        try:
            opened.set_page_load_timeout(120)
            opened.set_script_timeout(60)
            opened.execute_cdp_cmd("Network.enable", {})
            opened.execute_cdp_cmd(
                "Network.emulateNetworkConditions",
                {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
            )
            opened.set_window_size(width, height)
            yield opened
        finally:
            opened.quit()


def open_page(driver: Any, path: Path) -> None:
    """Opens a report from disk and waits until it says that it is ready."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(path.resolve().as_uri())
    ready = "return document.documentElement.dataset.ready === 'true'"
    WebDriverWait(driver, 60).until(lambda d: d.execute_script(ready))


def theme(driver: Any, name: str) -> None:
    """Light or dark, as the system of a reader would say."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def complaints(driver: Any) -> list[str]:
    """What the console of the page has said."""
    return [f"{entry['level']}: {entry['message']}" for entry in driver.get_log("browser")]


def picture(driver: Any, name: str) -> Path:
    """Keeps a screenshot as an artifact of the tests."""
    SCREENSHOTS.mkdir(exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    assert driver.save_screenshot(str(path))
    return path
