"""The server: it starts and closes all its parts together, and runs until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from aiohttp import web

from vidstyle.errors import BadOption
from vidstyle.options import BackendOptions, StageOptions
from vidstyle.serve.auth import Guard
from vidstyle.serve.config import ServeOptions
from vidstyle.serve.http import Connections, Protocol, add_headers, errors_as_json
from vidstyle.serve.job import AdaptBudget, JobLimits
from vidstyle.serve.jobs import Jobs
from vidstyle.serve.painter import InferenceScheduler, MediaRelay
from vidstyle.serve.render_settings import default_settings
from vidstyle.serve.routes import routes
from vidstyle.serve.stage import Stage
from vidstyle.serve.webrtc import PeerSessions

_log = logging.getLogger(__name__)
_MAX_BODY = 1 << 17
_SHUTDOWN_SECONDS = 0.5  # how long requests under way may go on once the server is to stop


class Server:
    """One server, for one event loop. Use it as an asynchronous context manager, or by `serve`."""

    def __init__(
        self,
        options: ServeOptions,
        *,
        backend: BackendOptions | None = None,
        stage: StageOptions | None = None,
        budget: AdaptBudget | None = None,
        limits: JobLimits | None = None,
    ) -> None:
        """Nothing is opened before it is entered. ``budget`` is that of an adaptation, ``limits`` those of all jobs."""
        self.options = options
        self._stage_options = stage or StageOptions()
        self.scheduler = InferenceScheduler(size=options.size, backend=backend)
        self.jobs = Jobs(options, budget=budget, limits=limits)
        self.peers = PeerSessions(self.scheduler, self.jobs, options)
        self.stage: Stage | None = None
        self.connections = Connections()
        self.port = options.port
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
        """The query string, with the token, of the first address that a browser opens."""
        return "" if self.options.token is None else f"?token={self.options.token}"

    def application(self) -> web.Application:
        """The routes behind the guard."""
        app = web.Application(middlewares=[errors_as_json, Guard(self.options).middleware()], client_max_size=_MAX_BODY)
        app.on_response_prepare.append(add_headers)
        app.add_routes(routes(self.options, self.jobs, self.peers))
        return app

    async def start(self) -> None:
        """Open and compile everything, then listen. Raises `BadOption`, `VideoError` and `BadModel`."""
        options, loop = self.options, asyncio.get_running_loop()
        self._runner = web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handle_signals=False
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        try:
            # The port is bound first, so that one in use is an error at once; clients wait until all is ready.
            self._listener = await loop.create_server(
                lambda: Protocol(server, loop=loop, access_log=None, connections=self.connections),
                options.host,
                options.port,
                backlog=64,  # as many are accepted within one turn of the loop
                start_serving=False,
            )
        except OSError as error:
            raise BadOption(_cannot_listen(options, error)) from error
        self.port = self._listener.sockets[0].getsockname()[1]
        self.stage = Stage(self._stage_options, self.scheduler, self.peers, self.jobs)
        await loop.run_in_executor(None, self.scheduler.start, default_settings().style)
        if options.source is not None:
            self.peers.source = await loop.run_in_executor(None, MediaRelay, options.source, options.size)
            self.peers.source.start()
        await self.jobs.start()
        self.jobs.on_change.append(lambda job: self.peers.refresh_styles())
        self.stage.start()
        self.peers.open = True
        await self._listener.start_serving()

    async def close(self) -> None:
        """End everything that `start` began. Twice is fine."""
        self.peers.open = False
        if self._listener is not None:
            self._listener.close()
        if self.stage is not None:
            await self.stage.close()
        await self.peers.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self.jobs.close()
        loop = asyncio.get_running_loop()
        if self.peers.source is not None:
            await loop.run_in_executor(None, self.peers.source.close)
        await loop.run_in_executor(None, self.scheduler.close)

    async def __aenter__(self) -> Server:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def serve(
    options: ServeOptions | None = None,
    *,
    backend: BackendOptions | None = None,
    stage: StageOptions | None = None,
    on_start: Callable[[Server], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Run a server until Ctrl-C or SIGTERM; all is closed then. For the main thread alone.

    ``on_start`` is called once it listens, ``on_stop`` by the signal handler at each signal. Raises `BadOption` where
    it cannot listen, and what opening a source and compiling a network raise.
    """
    server, stop = Server(options or ServeOptions(), backend=backend, stage=stage), asyncio.Event()
    loop: asyncio.AbstractEventLoop | None = None

    async def run() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        await _run_until(stop, server, on_start)

    # `loop.add_signal_handler` would wait for the loop, which may be what hangs; this one runs even so.
    def handle(number: int, frame: FrameType | None) -> None:
        if on_stop is not None:
            on_stop()
        if loop is None:
            stop.set()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(stop.set)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` has it ignored
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        asyncio.run(run())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _run_until(stop: asyncio.Event, server: Server, on_start: Callable[[Server], None] | None) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_failure)
    starting, stopping = asyncio.create_task(server.start()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            gc.freeze()  # what exists now stays: no collection need look at it whenever a visitor leaves
            if on_start is not None:
                on_start(server)
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await server.close()


def _log_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log the failure of a task that nobody waits for: of WebRTC's, mostly, when the other side sends nonsense."""
    _log.warning("%s: %r", context.get("message"), context.get("exception"))


def _cannot_listen(options: ServeOptions, error: OSError) -> str:
    host, port = options.host, options.port
    return {
        errno.EADDRINUSE: f"port {port} of {host} is in use, perhaps by another `vidstyle serve`; give another "
        "--port, or --port 0 for any that is free",
        errno.EACCES: f"port {port} may not be used; give one from 1024 with --port",
        errno.EADDRNOTAVAIL: f"{host} is not an address of this machine; give one with --host, or 0.0.0.0 for all",
    }.get(error.errno or 0, f"cannot listen on {host}, port {port}: {error.strerror or error}")
