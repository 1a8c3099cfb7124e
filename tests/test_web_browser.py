"""The page of `vidstyle web` in Chromium, whose graphics card is software: what it paints, beside torch."""

from __future__ import annotations

import base64
import functools
import http.server
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser, Page
from conftest import repository
from media import psnr
from numpy.typing import NDArray
from visiting import Command

from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style, style_names
from vidstyle.models.architecture import FAST, Network
from vidstyle.models.style import blend
from vidstyle.web.site import write_site

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

SIZE, ODD = (48, 64), (43, 61)
LEAST_DB = 40.0
STATE = "document.getElementById('stage').dataset.state"
PROBLEM = "document.getElementById('stage-problem').textContent"

# What the page's own painter makes of a picture with `blend`, a list of [name, share].
PAINT = """(async (png, width, height, blend) => {
  const { device } = await import('/page/app.js');
  const { blended } = await import('/page/network.js');
  const { painter } = device;
  painter.setPicture(await createImageBitmap(await (await fetch(png)).blob()));
  painter.resize(width, height, width, height);
  painter.setView({ strength: 1, mirror: false, divide: 0 });
  const parts = blend.map(async ([name, share]) => ({ style: await device.style(name), share }));
  painter.setStyle(blended(await Promise.all(parts)));
  painter.paint();
  return btoa(String.fromCharCode(...(await painter.pixels()).data));
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@functools.cache
def photo(size: tuple[int, int]) -> NDArray[np.uint8]:
    bgr = cv2.imread(str(PHOTOS / "astronaut.jpg"))
    assert bgr is not None
    return np.asarray(cv2.resize(bgr, size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)


def png(size: tuple[int, int]) -> bytes:
    return cv2.imencode(".png", photo(size)[..., ::-1])[1].tobytes()


def reference(network: Network, size: tuple[int, int]) -> NDArray[np.float64]:
    """What torch makes of the photo, in steps of 8 bits."""
    from vidstyle.models.torch_net import TransformNet

    padding = [(0, padded - side) for padded, side in zip(FAST.padded_size(size), size, strict=True)]
    padded = np.pad(photo(size) / np.float32(255), (*padding, (0, 0)), "edge")
    with torch.no_grad():
        chw = torch.from_numpy(padded.astype(np.float32)).permute(2, 0, 1)[None]
        painted = TransformNet.from_network(network)(chw, torch.from_numpy(network.start))[0].permute(1, 2, 0).numpy()
    return np.rint(255.0 * painted[: size[0], : size[1]])


def decibels(network: Network, size: tuple[int, int], painted: NDArray[np.uint8]) -> float:
    return psnr(reference(network, size), painted)


def paint(page: Page, size: tuple[int, int], *parts: Sequence[Any]) -> NDArray[np.uint8]:
    """RGB of ``size``, painted by the page with (name, share), ..."""
    address = "data:image/png;base64," + base64.b64encode(png(size)).decode()
    rgba = page.run(f"{PAINT}({address!r}, {size[1]}, {size[0]}, {[list(part) for part in parts]})")
    return np.frombuffer(base64.b64decode(rgba), np.uint8).reshape(*size, 4)[..., :3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site; its example is small, and no Content-Security-Policy keeps a data: address from it."""
    folder = tmp_path_factory.mktemp("web") / "site"
    write_site(folder)
    (folder / "photo.jpg").write_bytes(png(SIZE))
    load_style("udnie").save(folder / "styles" / "whole.safetensors")  # as a visitor's own style of `serve` is
    index = folder / "index.html"
    index.write_text(index.read_text().replace("connect-src 'self'", "connect-src 'self' data:"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, name="site").start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), has_webgpu=True) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page(browser: Browser, site: str) -> Iterator[Page]:
    """The page, once it has painted its example."""
    page = browser.page(site)
    page.wait(f"{STATE} === 'live' || {PROBLEM}", 80)
    assert page.run(PROBLEM) == ""
    yield page
    assert page.errors == []
    assert all(address.startswith((site, "data:", "blob:")) for address in page.requests), page.requests


def test_the_example_is_on_the_screen(page: Page) -> None:
    box = page.run("(({x, y, width, height}) => ({x, y, width, height}))(canvas.getBoundingClientRect())")
    data = page.call("Page.captureScreenshot", format="png", clip={**box, "scale": 1})["data"]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    small = cv2.resize(shown[..., ::-1], (16, 12), interpolation=cv2.INTER_AREA).astype(float)
    painted = reference(load_style("starry_night").network, SIZE)
    wanted = cv2.resize(painted, (16, 12), interpolation=cv2.INTER_AREA)
    assert np.abs(small - wanted).mean() < 12, "something else is shown"


@pytest.mark.parametrize("name", style_names("fast"))
def test_every_style_paints_as_torch_does(page: Page, name: str) -> None:
    assert decibels(load_style(name).network, SIZE, paint(page, SIZE, (name, 1))) >= LEAST_DB


def test_an_odd_size_is_padded_as_torch_does(page: Page) -> None:
    assert decibels(load_style("udnie").network, ODD, paint(page, ODD, ("udnie", 1))) >= LEAST_DB


def test_a_blend_paints_as_the_blend_of_the_networks(page: Page) -> None:
    mixed = blend([(load_style("great_wave"), 0.3), (load_style("the_scream"), 0.7)]).network
    painted = paint(page, SIZE, ("great_wave", 0.3), ("the_scream", 0.7))
    assert decibels(mixed, SIZE, painted) >= LEAST_DB > decibels(load_style("the_scream").network, SIZE, painted)


def test_a_style_that_is_no_difference_is_read_all_the_same(page: Page) -> None:
    largest = page.run(
        "(async () => { const { device } = await import('/page/app.js');"
        " const [one, other] = [await device.load('udnie'), await device.load('whole')];"
        " return one.reduce((most, number, at) => Math.max(most, Math.abs(number - other[at])), 0); })()"
    )
    assert largest < 2e-3, "the difference is more than FP16 rounds away"


def test_strength_lets_the_picture_shine_through(page: Page) -> None:
    full = paint(page, SIZE, ("udnie", 1))
    pixels = page.run(
        "(async () => { const { painter } = (await import('/page/app.js')).device; painter.setView({ strength: 0.25 });"
        " painter.paint(); return btoa(String.fromCharCode(...(await painter.pixels()).data)); })()"
    )
    found = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(*SIZE, 4)[..., :3].astype(float)
    assert np.abs(found - (0.25 * full + 0.75 * photo(SIZE))).max() <= 2


def test_a_frame_takes_at_most_24_passes_and_50_kflop_a_pixel(page: Page) -> None:
    passes = page.run("import('/page/painter.js').then(({ PASSES }) => PASSES)")
    flops = page.run("import('/page/network.js').then(({ flopsPerPixel }) => flopsPerPixel())")
    assert passes <= 24 and flops <= 50_000
    assert flops == FAST.flops_per_pixel()
    measured = page.run("import('/page/app.js').then(({ device }) => device.measure(0))")
    assert len(measured["passes"]) == passes
    assert measured["whole"] > 0 and all(one["ms"] is None or one["ms"] >= 0 for one in measured["passes"])


def test_a_lost_graphics_card_is_told(page: Page) -> None:
    page.run("import('/page/app.js').then(({ device }) => device.painter.device.destroy())")
    page.wait(f"{STATE} === 'failed'")
    assert "Start again" in page.run(PROBLEM)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined })", "has no WebGPU"),
        ("GPU.prototype.requestAdapter = async () => null", "no graphics card"),
    ],
)
def test_without_webgpu_the_page_says_so(browser: Browser, site: str, script: str, word: str) -> None:
    page = browser.page()
    page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    page.open(site)
    page.wait(f"{STATE} === 'failed'")
    assert word in page.run(PROBLEM)
    assert page.run("document.querySelectorAll('.style').length") == len(style_names("fast"))
    assert page.errors == []
    page.close()


def test_serve_offers_this_device(browser: Browser, tmp_path: Path) -> None:
    film = repository() / "examples" / "bunny.mp4"
    with Command(tmp_path, "--source", str(film), home=tmp_path / "home") as command:
        page = browser.page(command.url)
        page.wait("document.querySelector('.style') && !document.getElementById('place').hidden")
        page.click("[name=place][value=device]")
        page.click("[data-style=udnie] .choose")
        page.run("import('/page/app.js').then(({ device }) => (device.rows = 24))")
        page.click("#start")
        page.wait(f"{STATE} === 'live' || {PROBLEM}", 80)
        assert page.run(PROBLEM) == ""
        assert not [address for address in page.requests if "/api/visitors" in address], "the server paints"
        assert any(address.endswith("/api/styles/udnie/weights") for address in page.requests)
        page.click("#split")
        assert page.run("import('/page/app.js').then(({ device }) => device.view.divide)") == 0.5
        # A browser that does not lend frames of a video has them copied.
        page.run("import('/page/app.js').then(({ device }) => { device.painter.canLend = false; device.shown = []; })")
        page.wait("import('/page/app.js').then(({ device }) => device.shown.length > 1)")
        page.click("#stop")
        assert page.errors == []
        page.close()
        assert command.end() == 0
