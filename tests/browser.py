"""Chromium without a screen, driven by its DevTools protocol over a pipe, for the tests of the page."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
"""The program, where it is installed."""
START = "import os, sys; [os.dup2(int(sys.argv[1 + i]), 3 + i) for i in (0, 1)]; os.execv(sys.argv[3], sys.argv[3:])"
"""Chromium reads messages from descriptor 3 and writes them to 4, each with a NUL behind it."""
CALL_SECONDS = 90.0
POLL_SECONDS = 0.1
KEY_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
FLAGS = (
    "--headless=new",
    "--use-fake-ui-for-media-stream",  # the camera is granted without a question
    # A page that was given no camera tells its address as a name of multicast DNS, which no machine of tests resolves.
    "--disable-features=WebRtcHideLocalIpsWithMdns,MediaRouter,OptimizationHints,AutofillServerCommunication",
    "--disable-background-networking",
    "--disable-background-timer-throttling",  # two pages are looked at, and neither is in front
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--remote-debugging-pipe",
)
WEBGPU = (
    "--disable-gpu-watchdog",  # software takes its time
    "--enable-features=Vulkan,WebGPU",
    "--enable-unsafe-webgpu",
    "--ignore-gpu-blocklist",
    "--use-angle=swiftshader",
    "--use-vulkan=swiftshader",
    "--use-webgpu-adapter=swiftshader",
)
"""WebGPU by software."""


class PageError(AssertionError):
    """JavaScript in the page threw, or what was waited for did not come."""


class Browser:
    """One Chromium with a profile in ``folder``; a context manager that leaves nothing running."""

    def __init__(
        self,
        folder: Path,
        *,
        camera: Path | None = None,
        has_camera: bool = True,
        has_webgpu: bool = False,
        flags: tuple[str, ...] = (),
    ) -> None:
        """``camera`` is a .y4m file that the fake camera plays over and over; None is Chromium's own test picture."""
        assert CHROMIUM is not None
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        graphics = WEBGPU if has_webgpu else ("--disable-gpu",)
        words = [CHROMIUM, *FLAGS, *graphics, *flags, f"--user-data-dir={folder / 'profile'}"]
        if has_camera:
            words.append("--use-fake-device-for-media-stream")
        if os.geteuid() == 0:
            words.append("--no-sandbox")  # Chromium refuses to be root in one
        if camera is not None:
            words.append(f"--use-file-for-fake-video-capture={camera}")
        self._number = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._unread = b""
        self.pages: dict[str, Page] = {}
        theirs, ours = os.pipe(), os.pipe()
        fds = theirs[0], ours[1]
        words = [sys.executable, "-c", START, *map(str, fds), *words, "about:blank"]
        with (folder / "chromium.log").open("wb") as log:
            how: Any = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True}
            self.process = subprocess.Popen(words, pass_fds=fds, **how)
        self._read, self._write = ours[0], theirs[1]
        for fd in fds:
            os.close(fd)
        try:
            self._save_downloads()
        except BaseException:
            self._kill()
            raise

    def _save_downloads(self, **context: str) -> None:
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads), **context)

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """What the protocol's ``method`` answers."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        data = json.dumps(message if session is None else {**message, "sessionId": session}).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        end = time.monotonic() + CALL_SECONDS
        while number not in self._answers:
            self._receive(end - time.monotonic())
        answer = self._answers.pop(number)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _receive(self, seconds: float) -> None:
        if not select.select([self._read], [], [], max(0.0, seconds))[0]:
            raise PageError("Chromium does not answer")
        data = os.read(self._read, 1 << 20)
        if not data:
            raise PageError("Chromium has gone")
        *messages, self._unread = (self._unread + data).split(b"\0")
        for found in map(json.loads, messages):
            if "id" in found:
                self._answers[found["id"]] = found
            elif (page := self.pages.get(found.get("sessionId", ""))) is not None:
                page.note(found["method"], found["params"])

    def page(self, address: str | None = None, *, width: int = 1280, height: int = 800) -> Page:
        """A new page with cookies and storage of its own: another visitor."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        self._save_downloads(browserContextId=context)
        target = self.call(
            "Target.createTarget", url="about:blank", browserContextId=context, width=width, height=height
        )["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target, context)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            page.call(f"{domain}.enable")
        page.resize(width, height)
        if address is not None:
            page.open(address)
        return page

    def close(self) -> None:
        """End Chromium and all that it started."""
        with suppress(PageError, OSError):
            self.call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(CALL_SECONDS)
        os.close(self._read)
        os.close(self._write)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """One page of a `Browser`."""

    def __init__(self, browser: Browser, session: str, target: str, context: str) -> None:
        self._browser, self._session, self._target, self._context = browser, session, target, context
        self.errors: list[str] = []
        """What the console called an error, and what was thrown and not caught."""
        self.requests: list[str] = []
        """The address of everything that was asked for."""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, session=self._session, **parameters)

    def note(self, event: str, facts: dict[str, Any]) -> None:
        """Remember what matters of an event."""
        if event == "Runtime.exceptionThrown":
            details = facts["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in facts["args"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])

    def open(self, address: str) -> None:
        """Go there, and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def reload(self) -> None:
        self.run("window.isOld = true")
        self.call("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited, as if the visitor had just clicked."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description", details["text"]))
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait until the expression is true, and return its value."""
        end = time.monotonic() + seconds
        while True:
            # An element comes over as an empty object.
            value = self.run(f"(async () => {{ const v = await ({expression}); return v instanceof Node || v; }})()")
            if value:
                return value
            if time.monotonic() > end:
                raise PageError(f"{expression} is {value!r} after {seconds:g} s; errors: {self.errors}")
            time.sleep(POLL_SECONDS)

    def click(self, selector: str) -> None:
        """Click the first element that matches; it must be there, shown and not disabled."""
        state = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " if (!e) return 'is not there'; if (e.disabled) return 'is disabled';"
            " if (!e.getClientRects().length) return 'is hidden'; e.click(); return ''; })()"
        )
        if state:
            raise PageError(f"{selector} {state}")

    def slide(self, selector: str, value: float) -> None:
        """Move a range to ``value``, as a visitor would."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {value};"
            " e.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def press(self, key: str) -> None:
        """Press and release a key where the focus is."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = KEY_CODES.get(key, ord(key[0].upper()))
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an ``<input type=file>``."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drop_file(self, path: Path, *, x: int = 300, y: int = 300) -> None:
        """Drag a file over the page and let it go."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, **features: str) -> None:
        """Media features, with _ for -: ``prefers_color_scheme="dark"``."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def close(self) -> None:
        """Leave, as a visitor who closes the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
        del self._browser.pages[self._session]


def write_y4m(path: Path, frames: Iterable[NDArray[np.uint8]], *, width: int, height: int, rate: int = 30) -> Path:
    """Write I420 frames, uint8 of shape (3 / 2 * height, width), as the raw video that Chromium's fake camera plays."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for planes in frames:
            file.write(b"FRAME\n" + planes.tobytes())
    return path


def film_frames(film: Path, *, width: int, height: int, frames: int) -> Iterator[NDArray[np.uint8]]:
    """The first frames of ``film``, scaled, as `write_y4m` takes them."""
    with av.open(str(film)) as source:
        for frame in islice(source.decode(video=0), frames):
            yield frame.reformat(width=width, height=height, format="yuv420p", threads=1).to_ndarray()
