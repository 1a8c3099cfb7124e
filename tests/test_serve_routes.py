"""The gallery of the server: what ships, and what visitors made, renamed and removed by their own hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobserver import Served, files_in, serve
from networks import whole_style

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, style_names
from vidstyle.models.style import Style
from vidstyle.serve.http import ApiError, parse_json
from vidstyle.serve.job import MAX_LABEL, PREVIEW, STATE, STYLE, Job, new_id, owner_of
from vidstyle.serve.render_settings import Blend, blend_styles

SESSION = "s" * 43


def own(folder: Path, *, session: str = SESSION, kept: bool = False) -> str:
    """A style that the visitor of ``session`` has made; its id."""
    id = new_id()
    (folder / id).mkdir(parents=True)
    load_style("great_wave").save(folder / id / STYLE)
    (folder / id / PREVIEW).write_bytes(b"\xff\xd8\xff drawn by a worker")
    Job(folder / id, owner_of(session), "adapt", "Mine", state="done", kept=kept, published=150).write()
    return id


def mine(served: Served) -> Served:
    """The browser of `SESSION`."""
    return served.become(SESSION)


def test_the_list_holds_every_shipped_style_with_its_card(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        found = await served.json("GET", "/api/styles")
        assert [style["name"] for style in found] == style_names()
        wave = next(style for style in found if style["name"] == "great_wave")
        assert wave["painter"].startswith("Katsushika Hokusai") and wave["network"] == "fast"
        assert (wave["mine"], wave["job"], wave["step"]) == (False, None, None)
        for style in found:
            assert style["title"] and style["year"] and style["licence"]
            async with served.client.get("/" + style["thumbnail"]) as response:
                assert response.content_type == "image/jpeg"
                assert (await response.read()).startswith(b"\xff\xd8")

    serve(tmp_path / "jobs", body)


def test_an_own_style_is_drawn_downloaded_renamed_and_removed(tmp_path: Path) -> None:
    id = own(tmp_path / "jobs")

    async def body(served: Served) -> None:
        mine(served)
        style = (await served.json("GET", "/api/styles"))[-1]
        assert (style["name"], style["title"], style["mine"], style["step"]) == (f"mine/{id}", "Mine", True, 150)
        async with served.client.get("/" + style["thumbnail"]) as response:
            assert (response.content_type, await response.read()) == ("image/jpeg", b"\xff\xd8\xff drawn by a worker")
        path = f"/api/styles/mine%2F{id}"  # either way of writing the slash
        named = await served.json("PATCH", path, json={"title": " \x1b[31m<i>Sea\u202e\n "})
        assert named["title"] == "[31m<i>Sea"
        async with served.client.get(f"/api/styles/mine/{id}/download") as response:
            disposition = response.headers["Content-Disposition"]
            assert disposition.startswith('attachment; filename="[31m i Sea.safetensors"')
            (tmp_path / "mine.safetensors").write_bytes(await response.read())
        assert load_style(tmp_path / "mine.safetensors").card["painting"] == "[31m<i>Sea"
        assert len((await served.json("PATCH", path, json={"title": "t" * 9000}))["title"]) == MAX_LABEL
        await served.json("DELETE", path)
        assert (await served.json("GET", "/api/styles"))[-1]["mine"] is False
        await served.json("GET", path + "/thumbnail", 404)

    serve(tmp_path / "jobs", body)
    assert files_in(tmp_path / "jobs") == {".server"}


@pytest.mark.parametrize("kept", [False, True])
def test_a_style_is_changed_by_its_own_visitor_alone(tmp_path: Path, kept: bool) -> None:
    id = own(tmp_path / "jobs", kept=kept)

    async def body(served: Served) -> None:
        path = f"/api/styles/mine/{id}"
        assert any(style["name"] == f"mine/{id}" for style in await served.json("GET", "/api/styles")) == kept
        await served.json("PATCH", path, 404, json={"title": "stolen"})
        await served.json("DELETE", path, 404)
        async with served.client.get(path + "/download") as response:
            assert response.status == (200 if kept else 404)
        await served.json("DELETE", "/api/styles/great_wave", 403)
        await served.json("PATCH", "/api/styles/paper/great_wave", 403, json={"title": "x"})
        await served.json("GET", "/api/styles/great_wave/download", 404)

    serve(tmp_path / "jobs", body)
    assert Job.read(tmp_path / "jobs" / id).title == "Mine"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"json": {"title": ""}}, 400),
        ({"json": {"title": " \n"}}, 400),
        ({"json": {"title": 5}}, 400),
        ({"json": {"title": "a", "kept": True}}, 400),
        ({"json": ["title"]}, 400),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"[" * 16_000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": {"title": "x" * 20_000}}, 413),
        ({"data": {"title": "a"}}, 415),
    ],
)
def test_a_title_is_json_of_a_sane_size(tmp_path: Path, request_: dict[str, Any], status: int) -> None:
    id = own(tmp_path / "jobs")

    async def body(served: Served) -> None:
        await mine(served).json("PATCH", f"/api/styles/mine/{id}", status, **request_)

    serve(tmp_path / "jobs", body)


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "mine/../../secret",
        "..%2f..%2fnetwork",
        "%2e%2e/network",
        "fast/network",
        "network",
        "mine/" + "0" * 32,
        "mine%2F%00",
        "%ff%fe",
        "C:%5Cwindows",
        "%2Fetc%2Fpasswd",
        "\u0441tarry_night",
    ],
)
def test_a_name_is_looked_up_and_never_opened(tmp_path: Path, name: str) -> None:
    async def body(served: Served) -> None:
        from yarl import URL

        for what in ("thumbnail", "download"):
            url = URL(f"{served.server.make_url('/')}api/styles/{name}/{what}", encoded=name.isascii())
            async with served.client.session.get(url) as response:
                assert response.status == 404

    serve(tmp_path / "jobs", body)


@pytest.mark.parametrize("damage", ["cut", "foreign", "network", "link", "not finite"])
def test_a_damaged_style_on_disk_is_no_style(tmp_path: Path, damage: str) -> None:
    id = own(tmp_path / "jobs")
    path = tmp_path / "jobs" / id / STYLE
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "foreign":
        path.write_bytes(b"PK\x03\x04" * 100)
    elif damage == "network":
        load_style("paper/great_wave").save(path)
    elif damage == "link":
        path.rename(tmp_path / "elsewhere.safetensors")
        path.symlink_to(tmp_path / "elsewhere.safetensors")
    else:
        wave = load_style("great_wave").network
        Style.of("x", replace(wave, start=np.where(np.arange(1088) == 0, np.nan, wave.start))).save(path)

    async def body(served: Served) -> None:
        assert served.jobs.user_styles() == {}
        await mine(served).json("GET", f"/api/styles/mine/{id}/download", 404)

    serve(tmp_path / "jobs", body)


def test_a_state_that_was_tampered_with_makes_no_style_of_others(tmp_path: Path) -> None:
    id = own(tmp_path / "jobs")
    state = tmp_path / "jobs" / id / STATE
    state.write_text(json.dumps({**json.loads(state.read_text()), "owner": "../../x"}))

    async def body(served: Served) -> None:
        assert served.jobs.user_styles() == {} and served.jobs.counts()["done"] == 0

    serve(tmp_path / "jobs", body)


def test_a_blend_takes_shipped_and_own_styles_by_name(tmp_path: Path) -> None:
    id = own(tmp_path / "jobs")

    async def body(served: Served) -> None:
        styles = served.jobs.user_styles()
        whole_style("x", 1).save(tmp_path / "jobs" / id / STYLE)  # it has come on
        both = parse_json(json.dumps([{"style": f"mine/{id}"}, {"style": "great_wave", "weight": 3}]), Blend)
        found = blend_styles(both, styles)
        assert dict(found.parts)[load_style("great_wave").network] == 0.75
        assert blend_styles(both, styles).parts == found.parts, "what was computed of a style is found again"
        assert {network.digest for network, _ in found.parts} >= {whole_style("x", 1).network.digest}
        with pytest.raises(BadOption, match="no style"):
            blend_styles(parse_json(json.dumps([{"style": str(tmp_path / "jobs" / id / STYLE)}]), Blend), styles)

    serve(tmp_path / "jobs", body)


@pytest.mark.parametrize(
    "wrong",
    [None, {}, "great_wave", [], [{"style": "great_wave"}] * 5, [1], [{"weight": 1}], [{"style": "x", "y": 1}],
     [{"style": "x", "weight": -1}], [{"style": "x", "weight": 1001}], [{"style": "x", "weight": True}],
     [{"style": 1}]],
)  # fmt: skip
def test_json_that_is_no_blend_is_refused(wrong: object) -> None:
    with pytest.raises(ApiError, match="docs/serve.md"):
        parse_json(json.dumps(wrong), Blend)
