"""`vidstyle web`: the files of the site."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from vidstyle.cli import vidstyle
from vidstyle.errors import BadOption
from vidstyle.gallery import load_style, style_names
from vidstyle.web.site import write_site

MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "site"
    write_site(folder)
    return folder


def test_the_site_holds_every_style_of_fast_in_three_megabytes(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    listed = json.loads((site / "site.json").read_text())
    assert [style["name"] for style in listed["styles"]] == style_names("fast")
    for style in listed["styles"]:
        assert load_style(site / "styles" / f"{style['name']}.safetensors").network_name == "fast"
        assert (site / style["thumbnail"]).is_file()
    assert {path.name for path in site.parent.iterdir()} == {"site"}, "something was left beside it"


def test_the_page_asks_nobody_else(site: Path) -> None:
    for path in (*(path for path in site.glob("page/*") if path.suffix != ".safetensors"), site / "index.html"):
        text = re.sub(r"http://(www\.w3\.org/\d+/svg|localhost)", "", path.read_text())
        assert not re.search(r"https?://\S", text), f"{path.name} names another host"
        for name in re.findall(r'(?:from "\./|(?:href|src)="page/)([\w.]+)', text):
            assert (site / "page" / name).is_file(), f"{path.name} wants {name}"
    policy = re.search(r'Content-Security-Policy" content="([^"]+)', (site / "index.html").read_text())
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]


def test_a_folder_with_other_files_stays_as_it_is(site: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadOption, match=r"mine\.txt"):
        write_site(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(BadOption, match="--overwrite"):
        write_site(site)
    with pytest.raises(BadOption, match="no folder"):
        write_site(tmp_path / "a" / "b")


def test_the_command_writes_a_site_and_replaces_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    folder.mkdir()  # an empty one is as good as none
    done = CliRunner().invoke(vidstyle, ["web", str(folder)])
    assert done.exit_code == 0 and "MB" in done.output, done.output
    (folder / "page" / "app.js").write_text("broken")
    refused = CliRunner().invoke(vidstyle, ["web", str(folder)])
    assert refused.exit_code == 2 and "--overwrite" in refused.output
    # A failure half-way leaves the old site.
    monkeypatch.setattr("vidstyle.web.site.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_site(folder, overwrite=True)
    monkeypatch.undo()
    assert (folder / "page" / "app.js").read_text() == "broken"
    write_site(folder, overwrite=True)
    assert "broken" not in (folder / "page" / "app.js").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
