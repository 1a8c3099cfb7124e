"""The server: the page, the API behind it, and everything that must begin and end with them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from aiohttp import web

import vidstyle
from vidstyle.errors import BadOption
from vidstyle.options import BackendOptions
from vidstyle.serve import jobs_api, styles_api, visitors_api
from vidstyle.serve.answers import file_answer
from vidstyle.serve.connections import Connections
from vidstyle.serve.decoder import MOST_PIXELS
from vidstyle.serve.guard import Guard, add_headers, middleware, outermost
from vidstyle.serve.job import Job
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.look import first_look
from vidstyle.serve.metrics import Metric, text_of
from vidstyle.serve.options import ServeOptions
from vidstyle.serve.protocol import Protocol
from vidstyle.serve.shared_source import SharedSource
from vidstyle.serve.studio import Studio
from vidstyle.serve.visitors_api import Visitors

PAGE = Path(__file__).parent / "page"
_log = logging.getLogger(__name__)
_MOST_BODY = 1 << 17
_SHUTDOWN_SECONDS = 0.5
"""How long requests under way may go on once the server is to stop."""


class Server:
    """One server, for one event loop. Use it as an asynchronous context manager, or by `serve`."""

    def __init__(self, options: ServeOptions, *, backend: BackendOptions | None = None) -> None:
        """Nothing is opened before it is entered."""
        self.options = options
        self.studio = Studio(size=options.size, backend=backend)
        self.jobs = Jobs(options.folder, options)
        self.visitors = Visitors(self.studio, self.jobs, options)
        self.source: SharedSource | None = None
        self.connections = Connections()
        self.port = options.port
        """The port that it really has."""
        self._parts = {path.name for path in PAGE.iterdir() if path.is_file()}
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address to open in a browser, with the token."""
        host = self.options.host
        if host in ("0.0.0.0", "::"):
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self.query}"

    @property
    def query(self) -> str:
        """What the first address that a browser opens ends with."""
        return "" if self.options.token is None else f"?token={self.options.token}"

    def application(self) -> web.Application:
        """The routes, guarded."""
        app = web.Application(middlewares=[middleware(Guard(self.options))], client_max_size=_MOST_BODY)
        app.on_response_prepare.append(add_headers)
        app.router.add_get("/", self._page)
        app.router.add_get("/page/{name}", self._part)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/state", self._state)
        app.add_routes(visitors_api.routes(self.visitors))
        app.add_routes(jobs_api.routes(self.jobs, self.options))
        app.add_routes(styles_api.routes(self.jobs))
        return app

    async def start(self) -> None:
        """Open and compile everything, then listen. `BadOption`, `VideoError`, `BadModel` say why that cannot be."""
        options = self.options
        loop = asyncio.get_running_loop()
        runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handle_signals=False
        )
        self._runner = runner
        await runner.setup()
        server = runner.server
        assert server is not None
        server.request_handler = outermost(server.request_handler)
        try:
            # The port is taken at once, so that one in use is told at once; who comes waits until all is there.
            self._listener = await loop.create_server(
                lambda: Protocol(server, connections=self.connections, loop=loop, **server._kwargs),
                options.host,
                options.port,
                backlog=64,  # as many are accepted within one turn of the loop
                start_serving=False,
            )
        except OSError as error:
            raise BadOption(_why_not(options, error)) from error
        self.port = self._listener.sockets[0].getsockname()[1]
        await loop.run_in_executor(None, self.studio.start, first_look().style)
        if options.source is not None:
            self.source = await loop.run_in_executor(None, SharedSource, options.source, options.size)
            self.source.start()
            self.visitors.source = self.source
        await self.jobs.start()
        self.jobs.on_change.append(self._learned)
        self.visitors.open = True
        await self._listener.start_serving()

    async def close(self) -> None:
        """End everything that `start` began. Twice is fine."""
        self.visitors.open = False
        if self._listener is not None:
            self._listener.close()
        await self.visitors.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self.jobs.close()
        loop = asyncio.get_running_loop()
        if self.source is not None:
            await loop.run_in_executor(None, self.source.close)
        await loop.run_in_executor(None, self.studio.close)

    async def __aenter__(self) -> Server:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def _learned(self, job: Job) -> None:
        if job.kind == "adapt":
            self.visitors.learned()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return file_answer(request, PAGE / "index.html")

    async def _part(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in self._parts:
            raise web.HTTPNotFound
        return file_answer(request, PAGE / name)

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": self.visitors.open, "version": vidstyle.__version__})

    async def _state(self, request: web.Request) -> web.StreamResponse:
        options = self.options
        found: dict[str, Any] = {
            "version": vidstyle.__version__,
            "backend": self.studio.description,
            "source": self.source is not None,
            "source_description": None if self.source is None else self.source.shown,
            "token_needed": options.token is not None,
            "visitors": len(self.visitors),
            "limits": {
                "visitors": options.visitors,
                "size": [options.size[1], options.size[0]],
                "camera_pixels": MOST_PIXELS,
                "upload_mib": options.upload_mib,
                "painting_mib": min(options.upload_mib, jobs_api.MOST_PAINTING_MIB),
                "video_pixels": options.most_pixels,
                "video_seconds": options.most_seconds,
                "queue": options.queue,
            },
        }
        return web.json_response(found)

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        visitors, studio = self.visitors, self.studio
        jobs = tuple((f'state="{state}"', float(count)) for state, count in self.jobs.counts().items())
        facts = [visitor.facts() for visitor in visitors]
        latencies = [found["latency_ms"] / 1000 for found in facts if found["latency_ms"] is not None]
        text = text_of(
            (
                Metric("visitors", "gauge", "Visitors who are here.", (("", len(visitors)),)),
                Metric("visitors_most", "gauge", "Visitors who may be here at once.", (("", self.options.visitors),)),
                Metric("visitors_total", "counter", "Visitors who have come.", (("", visitors.come),)),
                Metric(
                    "visitors_refused_total",
                    "counter",
                    "Visitors for whom there was no room.",
                    (("", visitors.refused),),
                ),
                Metric("frames_painted_total", "counter", "Live pictures painted.", (("", studio.painted),)),
                Metric(
                    "frames_dropped_total",
                    "counter",
                    "Live pictures that a newer one replaced.",
                    (("", visitors.dropped),),
                ),
                Metric(
                    "fps",
                    "gauge",
                    "Live pictures a second, of all visitors.",
                    (("", sum(found["fps"] for found in facts)),),
                ),
                Metric(
                    "latency_seconds",
                    "gauge",
                    "Median from arrival to hand-over, of the visitor who waits longest.",
                    (("", max(latencies, default=0.0)),),
                ),
                Metric("jobs", "gauge", "Jobs by state.", jobs),
            )
        )
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def serve(
    options: ServeOptions | None = None,
    *,
    backend: BackendOptions | None = None,
    on_start: Callable[[Server], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Run a server until Ctrl-C or SIGTERM; all is closed then. For the main thread alone.

    ``on_start`` is called once it listens, ``on_stop`` by the signals' handler, each time that one comes. Raises
    `BadOption` where it cannot listen, and what opening a source and compiling a network raise.
    """
    with _Signals(on_stop) as signals:
        asyncio.run(_serve(options or ServeOptions(), backend, on_start, signals))


async def _serve(
    options: ServeOptions,
    backend: BackendOptions | None,
    on_start: Callable[[Server], None] | None,
    signals: _Signals,
) -> None:
    asyncio.get_running_loop().set_exception_handler(_note)
    stop = signals.event()
    server = Server(options, backend=backend)
    try:
        starting = asyncio.create_task(server.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            starting.cancel()
        try:
            await starting
            gc.freeze()  # what is there now stays: it need not be looked at whenever a visitor leaves
            if on_start is not None:
                on_start(server)
            await stop.wait()
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
        finally:
            stopping.cancel()
    finally:
        await server.close()


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What goes wrong in a task that nobody waits for: of WebRTC's, mostly, when the other side talks nonsense."""
    _log.warning("%s: %r", context.get("message"), context.get("exception"))


class _Signals:
    """Ctrl-C and SIGTERM, from entering it to leaving it.

    The loop's own handlers would wait for the loop, which may be what hangs; these are run even so.
    """

    def __init__(self, on_come: Callable[[], None] | None) -> None:
        self._on_come = on_come
        self._came = False
        self._tell: Callable[[], object] = lambda: None
        self._before: dict[int, Any] = {}

    def event(self) -> asyncio.Event:
        """What is set once one has come. On the loop."""
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        self._tell = lambda: loop.call_soon_threadsafe(event.set)
        if self._came:
            event.set()
        return event

    def __enter__(self) -> _Signals:
        ending = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` has it ignored
            ending.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._come) for number in ending}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        if self._on_come is not None:
            self._on_come()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._tell()


def _why_not(options: ServeOptions, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {options.port} of {options.host} is in use, perhaps by another `vidstyle serve`; "
            "give another one with --port, or --port 0 for any that is free"
        )
    if error.errno == errno.EACCES:
        return f"port {options.port} may not be used; give one from 1024 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{options.host} is no address of this machine; give one with --host, or 0.0.0.0 for all"
    return f"cannot listen on {options.host}, port {options.port}: {error.strerror or error}"
