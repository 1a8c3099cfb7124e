"""Where the server listens, and whom it lets in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vidstyle.errors import BadOption
from vidstyle.serve.config import MIN_TOKEN, ServeOptions, new_token
from vidstyle.system import is_loopback

TOKEN = "correct-horse-battery"


def test_nobody_else_can_reach_it_unless_asked() -> None:
    assert ServeOptions().is_loopback and ServeOptions().token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "kiosk.local", "8.8.8.8"])
def test_host_that_others_can_reach_needs_a_token(host: str) -> None:
    with pytest.raises(BadOption, match="--token"):
        ServeOptions(host=host)
    assert not ServeOptions(host=host, token=TOKEN).is_loopback


def test_name_of_a_proxy_needs_a_token_unless_said_otherwise() -> None:
    with pytest.raises(BadOption, match="paint.example.org.*--token auto"):
        ServeOptions(allowed_hosts=("localhost", "paint.example.org"))
    assert ServeOptions(allowed_hosts=("paint.example.org",), token=TOKEN).is_public
    assert ServeOptions(allowed_hosts=("paint.example.org",), open_to_all=True).is_public
    assert ServeOptions(host="0.0.0.0", open_to_all=True).is_public
    assert not ServeOptions(allowed_hosts=("localhost",)).is_public
    with pytest.raises(BadOption, match="one of the two"):
        ServeOptions(token=TOKEN, open_to_all=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False),
     ("localhost.example.com", False), ("128.0.0.1", False), ("", False)],
)  # fmt: skip
def test_loopback_is_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "token", ["", "short", "x" * (MIN_TOKEN - 1), "with space and more", "ünïcödé-tökén", "a/b" * 9]
)
def test_token_that_can_be_guessed_or_garbled_is_refused(token: str) -> None:
    with pytest.raises(BadOption, match="--token auto"):
        ServeOptions(token=token)


def test_tokens_made_up_are_good_and_differ() -> None:
    tokens = {new_token() for _ in range(50)}
    assert len(tokens) == 50
    for token in tokens:
        assert ServeOptions(host="0.0.0.0", token=token).token == token


@pytest.mark.parametrize(
    ("what", "words"),
    [({"host": ""}, "host"), ({"port": -1}, "port"), ({"port": 65536}, "port"), ({"visitors": 0}, "visitors"),
     ({"size": (360, 8)}, "width"), ({"upload_mib": 0}, "upload"), ({"queue": 0}, "queue"),
     ({"max_seconds": float("nan")}, "seconds"), ({"max_pixels": 1}, "pixels"),
     ({"allowed_hosts": ("a.example:80",)}, "allowed host"), ({"allowed_hosts": ("http://a",)}, "allowed host"),
     ({"public_address": "paint.example.org"}, "public address"), ({"public_address": "0.0.0.0"}, "public address"),
     ({"public_address": "203.0.113.7:80"}, "public address")],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(what: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        ServeOptions(**what)


def test_jobs_are_kept_in_vidstyles_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDSTYLE_HOME", str(tmp_path))
    assert ServeOptions().folder == tmp_path / "serve"
