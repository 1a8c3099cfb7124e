"""Styles that visitors made are read with suspicion; blends name shipped styles and those."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jobserver import user_job
from networks import whole_style

from vidstyle.errors import BadOption
from vidstyle.gallery import load_style
from vidstyle.models.style import Style
from vidstyle.serve.http import ApiError, parse_json
from vidstyle.serve.job import STYLE, Job
from vidstyle.serve.render_settings import Blend, SettingsChange, blend_styles, default_settings, has_style


@pytest.mark.parametrize("damage", ["cut", "foreign", "network", "link", "not finite"])
def test_a_damaged_style_on_disk_is_no_style(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / user_job(tmp_path)
    assert has_style(Job.read(folder))
    path = folder / STYLE
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
    assert not has_style(Job.read(folder))


def test_settings_follow_a_style_that_is_being_learned(tmp_path: Path) -> None:
    folder = tmp_path / user_job(tmp_path)
    styles, text = {"mine/x": Job.read(folder)}, [{"style": "mine/x"}, {"style": "great_wave", "weight": 3}]
    change = parse_json(json.dumps({"blend": text, "mirror": True}), SettingsChange)
    settings = default_settings().changed(change, styles)
    assert (settings.mirror, settings.strength) == (True, 1.0)
    assert list(settings.facts()["blend"]) == [{"weight": 1.0, **part} for part in text]
    assert settings.refreshed(styles) is settings
    whole_style("x", 1).save(folder / STYLE)  # it has come on
    newer = settings.refreshed(styles)
    assert dict(newer.style.parts)[load_style("great_wave").network] == 0.75
    assert {network.digest for network, _ in newer.style.parts} >= {whole_style("x", 1).network.digest}
    assert newer.refreshed(styles) is newer, "what was computed of a style is found again"
    assert newer.refreshed({}) is newer, "a style that was deleted stays for who is painted with it"
    (folder / STYLE).unlink()
    with pytest.raises(BadOption, match="not there any more"):
        settings.changed(change, styles)


@pytest.mark.parametrize(
    "wrong",
    [{"blend": blend} for blend in (
        None, {}, "great_wave", [], [{"style": "great_wave"}] * 5, [1], [{"weight": 1}], [{"style": "x", "y": 1}],
        [{"style": "x", "weight": -1}], [{"style": "x", "weight": 1001}], [{"style": "x", "weight": True}],
        [{"style": 1}])] + [{"strength": 2}, {"mirror": 1}, {"colour": "red"}],
)  # fmt: skip
def test_json_that_is_no_change_of_settings_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ApiError, match="docs/serve.md"):
        parse_json(json.dumps(wrong), SettingsChange)


def test_a_path_is_no_style(tmp_path: Path) -> None:
    path = str(tmp_path / user_job(tmp_path) / STYLE)
    with pytest.raises(BadOption, match="no style"):
        blend_styles(parse_json(json.dumps([{"style": path}]), Blend), {})
