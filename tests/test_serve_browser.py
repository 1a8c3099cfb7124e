"""The page of ``vidstyle serve`` in Chromium, whose fake camera plays a real film."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser, Page, PageError, film_frames, write_y4m
from conftest import repository
from numpy.typing import NDArray
from visiting import Command

from vidstyle.gallery import load_blend
from vidstyle.stylizer import Stylizer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="ends processes as POSIX does"),
]

FILM = repository() / "examples" / "bunny.mp4"
PAINTING = repository() / "vidstyle" / "gallery" / "fast" / "wheat_field.jpg"
WIDTH, HEIGHT, FRAMES = 320, 180, 45
SMALL = (64, 36)  # pictures are compared at this width and height
ADAPT_STEPS = 1
JOB_SECONDS = 180.0  # jobs yield to everything else on the machine: on a busy one they take their time

# Pictures of the stage as they are shown, each as the bytes of R, G, B.
GRAB = f"""((video, count) => new Promise((resolve) => {{
  const canvas = new OffscreenCanvas({SMALL[0]}, {SMALL[1]});
  const context = canvas.getContext("2d", {{willReadFrequently: true}});
  const found = [];
  const note = () => {{
    context.drawImage(video, 0, 0, {SMALL[0]}, {SMALL[1]});
    const rgba = context.getImageData(0, 0, {SMALL[0]}, {SMALL[1]}).data;
    found.push(Array.from(rgba).filter((_, at) => at % 4 < 3));
    if (found.length < count) video.requestVideoFrameCallback(note);
    else resolve(found);
  }};
  video.requestVideoFrameCallback(note);
}}))"""


def small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(rgb, SMALL, interpolation=cv2.INTER_AREA), np.uint8)


@cache
def film() -> list[NDArray[np.uint8]]:
    """What the camera shows, as RGB."""
    planes = film_frames(FILM, width=WIDTH, height=HEIGHT, frames=FRAMES)
    return [np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420), np.uint8) for frame in planes]


@cache
def expected(blend: str | None) -> NDArray[np.float64]:
    """The mean over the film, painted so or not at all, of shape (36, 64, 3)."""
    if blend is None:
        return np.mean([small(rgb) for rgb in film()], axis=0)
    with Stylizer(load_blend(blend)) as stylizer:
        return np.mean([small(stylizer(rgb)) for rgb in film()[:: FRAMES // 9]], axis=0)


def nearest(mean: NDArray[np.float64], *blends: str | None, part: Any = np.s_[:]) -> str | None:
    """Which of the ways to paint it ``mean`` looks most like."""
    return min(blends, key=lambda blend: float(np.abs(expected(blend)[part] - mean[part]).mean()))


def shown(page: Page, count: int = 10, video: str = "painted") -> NDArray[np.float64]:
    """The mean of the next pictures that are shown."""
    found = page.run(f"{GRAB}(document.getElementById('{video}'), {count})")
    return np.mean(np.array(found, np.float64).reshape(count, SMALL[1], SMALL[0], 3), axis=0)


def wait_until_shown(page: Page, wanted: str | None, *others: str | None) -> NDArray[np.float64]:
    """Wait until the stage looks like ``wanted`` and not like the ``others``."""
    for _ in range(20):
        mean = shown(page)
        if nearest(mean, wanted, *others) == wanted:
            return mean
    raise AssertionError(f"the stage looks like {nearest(mean, wanted, *others)}, not like {wanted}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    folder = tmp_path_factory.mktemp("served")
    with Command(folder, "--source", str(FILM), home=folder.parent / "home") as command:
        yield command.url
        assert command.end() == 0 and "Traceback" not in command.said(), command.said()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    frames = film_frames(FILM, width=WIDTH, height=HEIGHT, frames=FRAMES)
    camera = write_y4m(folder / "camera.y4m", frames, width=WIDTH, height=HEIGHT)
    with Browser(folder, camera=camera) as chromium:
        yield chromium


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A visitor's page; nothing may go wrong in it, and nothing may leave for elsewhere."""
    page = browser.page(server)
    page.wait("document.querySelector('.style')")
    yield page
    errors, requests = page.errors, page.requests
    page.close()
    assert errors == []
    assert all(address.startswith((server, "blob:", "data:")) for address in requests), requests


def start(page: Page, button: str = "#start") -> None:
    page.click(button)
    page.wait("document.getElementById('stage').dataset.state === 'live'")


def visitor_of(page: Page) -> str:
    """The id that the server gave to the page's connection, which the page asks about each second."""
    page.wait("/≥ \\d+ ms/.test(document.getElementById('delay').textContent)")
    return next(found.rpartition("/")[2] for found in reversed(page.requests) if "/api/visitors/" in found)


def wait_for_job(page: Page, selector: str) -> None:
    """Wait until the job is done; one that has failed is told at once, with what it says."""
    state = page.wait(
        f"(() => {{ const e = document.querySelector('{selector}'); return "
        "e && !/queued|running/.test(e.dataset.state) && e.dataset.state + ': ' + e.innerText; })()",
        JOB_SECONDS,
    )
    assert state.startswith("done: "), state


def downloaded(browser: Browser, pattern: str) -> Path:
    """A file that comes into the folder of downloads; it is whole."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        browser.call("Browser.getVersion")
        found = [path for path in browser.downloads.glob(pattern) if path.suffix != ".crdownload"]
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} in {[path.name for path in browser.downloads.iterdir()]}")


def pictures_in(video: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_stage_shows_the_camera_as_a_painting_and_follows_style_and_blend(page: Page) -> None:
    styles = ("starry_night", "the_scream", "starry_night:0.5,the_scream:0.5")
    start(page)
    mean = wait_until_shown(page, "starry_night", None, *styles[1:])
    painted, plain = (np.abs(expected(way) - mean).mean() for way in ("starry_night", None))
    assert painted < 0.5 * plain
    page.click("[data-style=the_scream] .choose")
    wait_until_shown(page, "the_scream", None, styles[0], styles[2])
    page.click("[data-style=starry_night] .add")
    wait_until_shown(page, styles[2], None, *styles[:2])
    assert page.run("[...document.querySelectorAll('#blend output')].map((e) => e.textContent)") == ["50 %", "50 %"]
    page.slide("#blend li:first-child input", 0)
    wait_until_shown(page, "starry_night", None, *styles[1:])
    page.slide("#strength", 0)
    wait_until_shown(page, None, *styles)
    page.wait("parseFloat(document.getElementById('fps').textContent) > 0")
    page.wait("/≥ \\d+ ms/.test(document.getElementById('delay').textContent)")


def test_compare_mirror_snapshot_and_recording_hold_what_is_on_the_stage(page: Page, browser: Browser) -> None:
    start(page)
    wait_until_shown(page, "starry_night", None)
    page.click("#split")
    page.wait("!document.getElementById('divider').hidden && document.getElementById('original').videoWidth")
    shown(page, 3, "original")
    page.click("#snapshot")
    path = downloaded(browser, "*.png")
    picture = cv2.imread(str(path))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    mean = small(np.ascontiguousarray(picture[..., ::-1])).astype(np.float64)
    assert nearest(mean, None, "starry_night", part=np.s_[:, :31]) is None
    assert nearest(mean, None, "starry_night", part=np.s_[:, 33:]) == "starry_night"

    page.run("document.getElementById('divider').focus()")
    for key, value in (("ArrowRight", "52"), ("Home", "0")):
        page.press(key)
        assert page.run("document.getElementById('divider').getAttribute('aria-valuenow')") == value
    page.click("#split")

    assert is_mirrored(shown(page)) is False
    page.click("#mirror")
    assert any(is_mirrored(shown(page)) for _ in range(20))
    page.click("#mirror")

    page.click("#record")
    page.wait("document.getElementById('recorded').textContent === '0:02'")
    page.click("#record")
    pictures = pictures_in(downloaded(browser, "vidstyle-*.[mw][pe][4b]*"))
    assert len(pictures) >= 5
    mean = np.mean([small(rgb) for rgb in pictures[len(pictures) // 2 :]], axis=0)
    assert nearest(mean, None, "starry_night") == "starry_night"
    page.click("#stop")
    page.wait("document.getElementById('stage').dataset.state === 'idle'")


def is_mirrored(mean: NDArray[np.float64]) -> bool:
    as_is, turned = (np.abs(way - mean).mean() for way in (expected("starry_night"), expected("starry_night")[:, ::-1]))
    return bool(turned < as_is)


def test_dropped_painting_becomes_a_style_that_can_be_used_named_and_downloaded(page: Page, browser: Browser) -> None:
    page.run(f"document.getElementById('steps').append(new Option('few', '{ADAPT_STEPS}', true, true))")
    start(page)
    page.drop_file(PAINTING)
    name = page.wait("document.querySelector('[data-style^=\"mine/\"]')?.dataset.style")
    assert not page.run("document.querySelector('.job[data-state=done]')"), "it is there while it is learned"
    page.click(f'[data-style="{name}"] .choose')
    page.wait("document.querySelector('#blend .title').textContent === 'Wheat field'")
    page.click("#stop")  # a stream that is painted leaves little of two cores for learning
    wait_for_job(page, ".job")
    assert page.run("document.querySelector('.job .curve path:last-child').getAttribute('d')").startswith("M")
    page.wait("document.querySelector('.job img.preview').naturalWidth > 0")
    page.wait("document.getElementById('look-problem').hidden && document.getElementById('gallery-problem').hidden")
    page.click(f'[data-style="{name}"] .tools [title=Rename]')
    page.run("document.getElementById('rename-to').select()")
    page.call("Input.insertText", text="Wheat & <b>crows</b>")
    page.press("Enter")
    page.wait("document.querySelector('[data-style^=\"mine/\"] .title').textContent === 'Wheat & <b>crows</b>'")
    page.click(f'[data-style="{name}"] .tools [title="Keep for good"]')
    page.wait('document.querySelector(\'[data-style^="mine/"] .tools [title="Keep for good"]\').hidden')
    page.click(f'[data-style="{name}"] .tools [title=Download]')
    path = str(downloaded(browser, "*.safetensors"))
    start(page)
    wait_until_shown(page, path, None, "starry_night", "wheat_field")
    page.click(f'[data-style="{name}"] .tools [title=Delete]')
    page.click("#remove .danger")
    page.wait("!document.querySelector('[data-style^=\"mine/\"]')")
    page.wait("document.querySelector('#blend .title').textContent !== 'Wheat & <b>crows</b>'")


def test_dropped_video_is_painted_while_the_page_is_loaded_anew(page: Page, browser: Browser, tmp_path: Path) -> None:
    video = tmp_path / "a film.mp4"
    with av.open(str(video), "w") as output:
        stream = output.add_stream("libx264", 15)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for rgb in film():
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(stream.encode(None))
    page.click("[data-style=the_scream] .choose")
    page.drop_file(video)
    job = page.wait("document.querySelector('.job[data-kind=render]')?.dataset.job")
    page.reload()
    page.wait(f"document.querySelector('[data-job=\"{job}\"]')")
    wait_for_job(page, f'[data-job="{job}"]')
    page.click(f'[data-job="{job}"] a.button')
    pictures = pictures_in(downloaded(browser, "a film*.mp4"))
    assert len(pictures) == FRAMES and pictures[0].shape == (HEIGHT, WIDTH, 3)
    mean = np.mean([small(rgb) for rgb in pictures], axis=0)
    assert nearest(mean, None, "starry_night", "the_scream") == "the_scream"
    page.click(f'[data-job="{job}"] button:last-child')
    page.wait("!document.querySelector('.job')")


def test_connection_that_is_lost_comes_back(page: Page) -> None:
    start(page)
    before = visitor_of(page)
    page.run(f"fetch('api/visitors/{before}', {{method: 'DELETE'}}).then(() => true)")
    page.wait("document.getElementById('stage').dataset.state !== 'live'")
    page.wait("document.getElementById('stage').dataset.state === 'live'")
    wait_until_shown(page, "starry_night", None)
    assert visitor_of(page) != before
    page.errors[:] = [error for error in page.errors if "404" not in error]


def test_own_source_of_the_server_is_painted_without_a_camera(page: Page) -> None:
    start(page, "#start-source")
    assert page.run("document.getElementById('original').srcObject") is None
    mean = shown(page)
    assert mean.std() > 10
    page.click("#split")
    page.wait("!document.querySelector('.corner').hidden")
    assert page.run("document.getElementById('divider').hidden")


def test_everything_has_a_name_and_keys_reach_it(page: Page) -> None:
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "slider", "image", "textbox", "combobox", "radio", "list", "region", "link", "dialog"}
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert [role for role, name in found if role in roles and not name.strip()] == []
    assert {"Start camera", "Strength", "Compare", "Blend with The Scream"} <= {name for _, name in found}

    def pressed(key: str, element: str, value: str = "getAttribute('aria-pressed')") -> Any:
        page.press(key)
        return page.run(f"document.getElementById('{element}').{value}")

    page.run("document.getElementById('picture').focus()")
    before = page.run("document.querySelector('#blend .title').textContent")
    for key, equals in (("n", "!=="), ("p", "===")):
        page.press(key)
        page.wait(f"document.querySelector('#blend .title').textContent {equals} {json.dumps(before)}")
    assert pressed("-", "strength", "value") == "90"
    assert pressed("m", "mirror") == "true"
    page.run("document.getElementById('strength').focus()")
    assert pressed("m", "mirror") == "true", "keys of the picture are those of the picture alone"
    assert pressed("Home", "strength-value", "textContent") == "0 %"


def test_page_fits_every_width_in_light_and_dark(page: Page) -> None:
    page.wait("document.querySelectorAll('.style').length > 3")
    colors = set()
    for width in (360, 390, 768, 1280, 1920):
        page.resize(width, 844, phone=width < 500)
        assert page.run("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            page.prefer(prefers_color_scheme=scheme)
            colors.add((scheme, page.run("getComputedStyle(document.documentElement).backgroundColor")))
    assert len(colors) == len({color for _, color in colors}) == 2


# What lies over a button's middle, or lies outside of the screen, once it is scrolled to.
COVERED = """(() => { const found = [];
  for (const e of document.querySelectorAll("button, a.button, label.button, select, input[type=range], summary")) {
    if (!e.getClientRects().length || e.disabled) continue;
    e.scrollIntoView({block: "center", inline: "nearest"});
    const r = e.getBoundingClientRect();
    const top = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
    const isInside = r.left >= 0 && r.right <= innerWidth + 1 && r.top >= 0 && r.bottom <= innerHeight + 1;
    if (!top || !(e.contains(top) || top.contains(e) && top.tagName === "LABEL") || !isInside)
      found.push(`${e.id || e.textContent} at ${Math.round(r.left)}, ${Math.round(r.top)}`);
  }
  return found; })()"""
METER_END = "Math.max(...[...document.querySelectorAll('#meter *')].map((e) => e.getBoundingClientRect().right))"
PHONES = [(390, 844), (360, 640), (320, 568), (412, 915)]


def test_everything_can_be_pressed_on_phones_that_may_have_no_camera(tmp_path: Path) -> None:
    options = "--source", str(FILM), "--allow-host", "paint.test", "--token", "correct-horse-battery"
    flags = ("--host-resolver-rules=MAP paint.test 127.0.0.1",)
    with Command(tmp_path, *options) as command, Browser(tmp_path / "browser", flags=flags) as browser:
        # Plain http, and not from this very machine.
        page = browser.page(command.url.partition("?")[0].replace("127.0.0.1", "paint.test"))
        page.resize(*PHONES[0], phone=True)
        page.run("document.getElementById('token').value = 'correct-horse-battery'")
        page.click("button[type=submit]")
        page.wait("document.querySelectorAll('.style').length > 3")
        for width, height in [*PHONES, *((b, a) for a, b in PHONES), (768, 1024)]:
            page.resize(width, height, phone=True)
            words = page.wait("document.getElementById('stage-problem').textContent")
            assert "https" in words and "localhost" not in words
            assert page.run(COVERED) == []
            start(page, "#start-source")
            page.wait("document.getElementById('delay').textContent.includes('ms')")
            assert page.run(COVERED) == []
            assert page.run(METER_END) <= page.run("document.getElementById('stage').getBoundingClientRect().right") - 4
            assert page.run("document.documentElement.scrollWidth") <= width
            page.click("#stop")


def test_refused_file_and_missing_camera_are_told_where_they_happen(
    page: Page, server: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = tmp_path / "painting.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no picture")
    page.drop_file(broken)
    words = page.wait("document.getElementById('studio-problem').textContent")
    assert words.startswith("painting.png: it ") and len(words) > 20
    page.wait("document.getElementById('status').textContent === 'painting.png was not taken'")
    other = tmp_path / "words.txt"
    other.write_text("words")
    page.drop_file(other)
    page.wait("document.getElementById('studio-problem').textContent.includes('neither a picture nor a video')")
    page.errors[:] = [error for error in page.errors if "415" not in error and "400" not in error]
    without = tmp_path_factory.mktemp("without")
    with Browser(without, has_camera=False) as bare:
        visitor = bare.page(server)
        visitor.wait("document.querySelector('.style')")
        visitor.click("#start")
        words = visitor.wait("document.getElementById('stage-problem').textContent")
        assert "No camera was found" in words and "the server show its own video" in words
        start(visitor, "#start-source")
        assert visitor.errors == []
        with pytest.raises(PageError, match="is not there"):
            visitor.click("#nothing")
