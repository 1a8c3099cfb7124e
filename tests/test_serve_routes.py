"""The gallery of the server: what ships, and what visitors made, renamed and removed by their own hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from jobserver import SESSION, files_in, serve, user_job
from pictures import painting, save
from yarl import URL

from vidstyle.gallery import load_style, style_names, style_path
from vidstyle.serve.job import MAX_LABEL, Job


async def test_the_list_holds_every_shipped_style_with_its_card(tmp_path: Path) -> None:
    async with serve(tmp_path / "jobs") as served:
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


async def test_an_own_style_is_drawn_downloaded_renamed_and_removed(tmp_path: Path) -> None:
    id = user_job(tmp_path / "jobs")
    async with serve(tmp_path / "jobs") as served:
        served.become(SESSION)
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
        for name, file in ((f"mine/{id}", tmp_path / "mine.safetensors"), ("great_wave", style_path("great_wave"))):
            async with served.client.get(f"/api/styles/{name}/weights") as response:  # for a device that paints itself
                assert load_style(file).vector.size and await response.read() == file.read_bytes()
        assert len((await served.json("PATCH", path, json={"title": "t" * 9000}))["title"]) == MAX_LABEL
        await served.json("DELETE", path)
        assert (await served.json("GET", "/api/styles"))[-1]["mine"] is False
        await served.json("GET", path + "/thumbnail", 404)
    assert files_in(tmp_path / "jobs") == {".server"}


@pytest.mark.parametrize("kept", [False, True])
async def test_a_style_is_changed_by_its_own_visitor_alone(tmp_path: Path, kept: bool) -> None:
    id = user_job(tmp_path / "jobs", kept=kept)
    async with serve(tmp_path / "jobs") as served:
        path = f"/api/styles/mine/{id}"
        assert any(style["name"] == f"mine/{id}" for style in await served.json("GET", "/api/styles")) == kept
        await served.json("PATCH", path, 404, json={"title": "stolen"})
        await served.json("DELETE", path, 404)
        for what in ("download", "weights"):
            async with served.client.get(f"{path}/{what}") as response:
                assert response.status == (200 if kept else 404)
        await served.json("DELETE", "/api/styles/great_wave", 403)
        await served.json("PATCH", "/api/styles/paper/great_wave", 403, json={"title": "x"})
        await served.json("GET", "/api/styles/great_wave/download", 404)
    assert Job.read(tmp_path / "jobs" / id).title == "Mine"


async def test_a_title_is_json_of_a_sane_size(tmp_path: Path) -> None:
    json_type = {"Content-Type": "application/json"}
    wrong: list[tuple[int, dict[str, Any]]] = [
        *((400, {"json": title}) for title in ({"title": ""}, {"title": " \n"}, {"title": 5}, ["title"])),
        (400, {"json": {"title": "a", "kept": True}}),
        *((400, {"data": data, "headers": json_type}) for data in (b"{", b"[" * 16_000, b"\xff")),
        (413, {"json": {"title": "x" * 20_000}}),
        (415, {"data": {"title": "a"}}),
    ]
    id = user_job(tmp_path / "jobs")
    async with serve(tmp_path / "jobs") as served:
        served.become(SESSION)
        for status, request in wrong:
            await served.json("PATCH", f"/api/styles/mine/{id}", status, **request)


NAMES = (
    *("nobody", "mine/../../secret", "..%2f..%2fnetwork", "%2e%2e/network", "fast/network", "network", "%ff%fe"),
    *("mine/" + "0" * 32, "mine%2F%00", "C:%5Cwindows", "%2Fetc%2Fpasswd", "\u0441tarry_night"),
)


async def test_a_name_is_looked_up_and_never_opened(tmp_path: Path) -> None:
    async with serve(tmp_path / "jobs") as served:
        for path in (f"{name}/{what}" for name in NAMES for what in ("thumbnail", "download")):
            url = URL(f"{served.server.make_url('/')}api/styles/{path}", encoded=path.isascii())
            async with served.client.session.get(url) as response:
                assert response.status == 404, path


async def test_the_cookie_is_no_business_of_scripts_or_other_sites(tmp_path: Path) -> None:
    async with serve(tmp_path / "jobs") as served:
        async with served.client.get("/api/jobs") as response:
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
        async with served.client.get("/api/jobs") as response:
            assert "Set-Cookie" not in response.headers
        async with served.stranger() as other:
            headers = {"Cookie": "vidstyle_session=guessed"}
            async with other.client.get("/api/jobs", headers=headers) as response:
                assert "guessed" not in response.headers["Set-Cookie"]


async def test_fields_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    wave = '{"style": "great_wave"%s}'
    wrong = [
        *(("adapt", "steps", "0", "steps is 0"), ("adapt", "steps", "1001", "between 1 and 1000")),
        *(("adapt", "steps", "-5", "whole number"), ("adapt", "steps", "1e3", "whole number")),
        *(("adapt", "steps", "²", "whole number"), ("adapt", "steps", "9" * 30, "between 1 and 1000")),
        *(("render", "strength", "nan", "strength"), ("render", "strength", "2", "between 0 and 1")),
        ("render", "mask", "cat", "one of none, person, background"),
        *(("render", "strength", "strong", "number"), ("render", "blend", "[]", ">= 1")),
        *(("render", "blend", "{", "JSON"), ("render", "blend", "[" * 4000, "JSON")),
        *(("render", "blend", '[{"style": "../x"}]', "no style '../x'"),),
        *(("render", "blend", f"[{wave % weight}]", "weight") for weight in (', "weight": -1', ', "weight": true')),
        ("render", "blend", "[" + wave % ', "weight": NaN' + "]", "JSON"),
        ("render", "blend", "[" + wave % ', "weight": 0' + "]", "above 0"),
        ("render", "blend", '[{"style": ["great_wave"]}]', "[0].style"),
        ("render", "blend", f'[{wave % ""}, {{"style": "paper/great_wave"}}]', "cannot be blended"),
    ]
    picture = save(painting(2), tmp_path / "painting.png")
    async with serve(tmp_path / "jobs") as served:
        for kind, field, text, word in wrong:
            found = await served.upload(kind, picture, 400, **{field: text})
            assert word in found["error"], (field, text)
    assert files_in(tmp_path / "jobs") == {".server"}


async def test_without_torch_no_style_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    async with serve(tmp_path / "jobs") as served:
        assert "pip install 'vidstyle[train]'" in (await served.upload("adapt", b"x", 501))["error"]
