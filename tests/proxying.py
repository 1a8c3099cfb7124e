"""A reverse proxy with https before a server, as the documentation has it: HTTP alone, ``Host`` unchanged."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOP = {"transfer-encoding", "content-length", "connection", "keep-alive"}


class ToThisMachine(AbstractResolver):
    """Leads every name here."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """What a server called ``name`` shows, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    end = began + datetime.timedelta(days=1)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), began, end)
    signed = made.sign(key, hashes.SHA256())
    path = folder / "proxy.pem"
    form = serialization.Encoding.PEM
    private = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextlib.asynccontextmanager
async def proxied(folder: Path, name: str, upstream: int) -> AsyncIterator[str]:
    """The address of ``https://name:port``, from where all is passed on to the server at port ``upstream``."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as client:

        async def passed_on(request: web.BaseRequest) -> web.StreamResponse:
            url = f"http://127.0.0.1:{upstream}{request.path_qs}"
            headers: Any = [(key, value) for key, value in request.headers.items() if key.lower() not in HOP]
            headers += [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", request.remote or "")]
            body = await request.read()
            async with client.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as response:
                kept = [(key, value) for key, value in response.headers.items() if key.lower() not in HOP]
                return web.Response(status=response.status, body=await response.read(), headers=kept)

        runner = web.ServerRunner(web.Server(passed_on))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate(folder, name))
        await site.start()
        try:
            yield f"https://{name}:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()


def browser() -> aiohttp.ClientSession:
    """A client that finds every name on this machine, and trusts it."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, resolver=ToThisMachine()))
