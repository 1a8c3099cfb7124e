"""`vidstyle train`: two phases, a folder that tells what happened, and a run that goes on to the bit."""

from __future__ import annotations

import csv
import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from pictures import painting_folder, photo, photo_folder, save

from vidstyle.cli import vidstyle
from vidstyle.errors import BadModel, BadOption, ImageError
from vidstyle.gallery import shared_network
from vidstyle.models.architecture import FAST, Network
from vidstyle.models.checkpoint import read_tensors
from vidstyle.training import train as module
from vidstyle.training.adapt import AdaptOptions, adapt
from vidstyle.training.bilevel import InnerOptions
from vidstyle.training.data import Photos
from vidstyle.training.device import Compute
from vidstyle.training.phases import ReptileOptions
from vidstyle.training.train import NETWORK_FILE, Data, Keep, TrainOptions, random_network, train
from vidstyle.training.trainer import COLUMNS, Progress, TrainingLog

COMPUTE = Compute(device="cpu", arithmetic="fp32", threads=1)
SMALL: dict[str, Any] = {"styles": 2, "batch": 1, "size": 32, "style_size": 32, "stable": 1.0, "compute": COMPUTE}
BOTH = {"warm_steps": 3, "steps": 3}
Phase = Literal["warm", "bilevel"]


class Folders(NamedTuple):
    """Where the pictures of a run are."""

    styles: Path
    content: Path
    validation: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    folder = tmp_path_factory.mktemp("pictures")
    return Folders(
        painting_folder(folder / "styles", 3),
        photo_folder(folder / "content", 3),
        photo_folder(folder / "validation", 2, first=20),
    )


def data(folders: Folders) -> Data:
    return Data.in_folders(*folders, size=32)


def run(
    folders: Folders, keep: Keep, progress: Callable[[str, Progress], None] | None = None, **changes: Any
) -> Network:
    options = TrainOptions(**{**SMALL, **changes})
    return train(shared_network("fast"), data(folders), options, keep, progress=progress)


def same(first: Network, second: Network) -> bool:
    return np.array_equal(first.start, second.start) and all(
        np.array_equal(first.weights[name], second.weights[name]) for name in first.weights
    )


def card(folder: Path) -> dict[str, Any]:
    file = read_tensors(folder / NETWORK_FILE, file_format="vidstyle-network", version="1")
    return dict(file.card)


def log(folder: Path) -> list[tuple[str, int]]:
    with (folder / "log.csv").open(newline="") as file:
        return [(row["phase"], int(row["step"])) for row in csv.DictReader(file)]


class Whole(NamedTuple):
    """A run that nothing disturbed."""

    network: Network
    folder: Path
    told: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def whole(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder, told = tmp_path_factory.mktemp("runs") / "deep" / "whole", list[tuple[str, int, int]]()

    def tell(phase: str, at: Progress) -> None:
        told.append((phase, at.step, at.steps))

    network = run(folders, Keep(folder=folder, sample_every=2), tell, **BOTH)
    return Whole(network, folder, told)


EVERY_STEP = [(phase, step) for phase in ("warm", "bilevel") for step in (1, 2, 3)]


# What a run leaves


def test_both_phases_run_and_every_step_is_told_and_logged_once(whole: Whole) -> None:
    assert whole.told == [(phase, step, 3) for phase, step in EVERY_STEP]
    assert log(whole.folder) == EVERY_STEP
    with (whole.folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    for row in rows:
        assert all(np.isfinite(float(row[name])) for name in ("seconds", "total", "content", "style", "instability"))
    assert [bool(row["before"]) for row in rows] == [False] * 3 + [True, False, False]  # every LOOK_BACK steps


def test_the_run_folder_holds_these_files(whole: Whole) -> None:
    names = sorted(str(path.relative_to(whole.folder)) for path in whole.folder.rglob("*") if path.is_file())
    assert names == [
        "bilevel.checkpoint.safetensors",
        "log.csv",
        "network.safetensors",
        "samples/bilevel-000002.jpg",
        "samples/warm-000002.jpg",
        "warm.checkpoint.safetensors",
    ]


def test_a_sample_sheet_shows_paintings_above_what_two_photos_became(whole: Whole) -> None:
    for name in ("warm-000002.jpg", "bilevel-000002.jpg"):
        sheet = cv2.imread(str(whole.folder / "samples" / name))
        assert sheet is not None and sheet.shape == (3 * 32, 4 * 32, 3)  # three paintings, and the photos' column
        assert sheet[:16, :16].min() > 240  # the corner is blank
        assert sheet[32:64, :32].std() > 10


def test_the_network_comes_back_from_its_file_and_says_how_it_was_made(whole: Whole) -> None:
    loaded = Network.load(whole.folder / NETWORK_FILE)
    assert loaded.digest == whole.network.digest != shared_network("fast").digest
    assert not np.array_equal(loaded.start, shared_network("fast").start)
    facts = card(whole.folder)
    warm, bilevel = facts["phases"]
    assert (warm["phase"], warm["steps"], bilevel["phase"], bilevel["steps"]) == ("warm", 3, "bilevel", 3)
    assert warm["start"] == shared_network("fast").digest[:12] and bilevel["start"] != warm["start"]
    assert warm["minutes"] >= 0 and warm["crops"] == 2 and warm["size"] == warm["style_size"] == 32
    assert "inner" not in warm
    assert bilevel["inner"] == dataclasses.asdict(InnerOptions())
    assert facts["loss"] == {
        "content": 1.0,
        "style": 10.0,
        "detail": 4.0,
        "contrast": 0.0,
        "tone": 1.0,
        "variation": 0.02,
    }
    assert facts["stable"] == 1.0
    assert (facts["paintings"], facts["photos"], facts["skipped"], facts["processes"]) == (3, 5, 0, 1)
    assert facts["hardware"].startswith("1 threads of ")


def test_adapt_starts_from_the_trained_network(whole: Whole, folders: Folders) -> None:
    network = Network.load(whole.folder / NETWORK_FILE)
    options = AdaptOptions(steps=1, batch=1, size=32, style_size=32, compute=COMPUTE)
    style = adapt(next(folders.styles.glob("*.png")), network, options=options)
    assert style.theta == network.digest


@pytest.mark.parametrize("phase", ["warm", "bilevel"])
def test_one_phase_may_run_alone(phase: Phase, folders: Folders, tmp_path: Path) -> None:
    steps: dict[str, int] = {"warm_steps" if phase == "warm" else "steps": 1}
    run(folders, Keep(folder=tmp_path, sample_every=0), **steps)
    assert log(tmp_path) == [(phase, 1)]
    assert [facts["phase"] for facts in card(tmp_path)["phases"]] == [phase]
    assert not (tmp_path / "samples").exists()


def test_random_weights_depend_on_the_seed(tmp_path: Path) -> None:
    first, again, other = (random_network("fast", seed) for seed in (0, 0, 1))
    assert first.architecture is FAST and first.digest == again.digest != other.digest
    np.testing.assert_array_equal(first.start, FAST.identity_style())


# Interrupted


def stop_at(phase: str, step: int) -> Callable[[str, Progress], None]:
    def stop(name: str, at: Progress) -> None:
        if (name, at.step) == (phase, step):
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("phase", ["warm", "bilevel"])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    phase: Phase, whole: Whole, folders: Folders, tmp_path: Path
) -> None:
    keep = Keep(folder=tmp_path, every=100, sample_every=0)
    with pytest.raises(KeyboardInterrupt):
        run(folders, keep, stop_at(phase, 2), **BOTH)
    assert not (tmp_path / NETWORK_FILE).exists()
    told: list[tuple[str, int]] = []
    again = dataclasses.replace(keep, resume=True)
    resumed = run(folders, again, lambda name, at: told.append((name, at.step)), **BOTH)
    assert same(resumed, whole.network)
    assert told == EVERY_STEP[EVERY_STEP.index((phase, 2)) + 1 :]
    assert log(tmp_path) == EVERY_STEP
    assert card(tmp_path)["phases"][0]["steps"] == card(tmp_path)["phases"][1]["steps"] == 3


def test_an_interrupted_reptile_run_goes_on_to_the_same_bits(folders: Folders, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "reptile": ReptileOptions(steps=2)}
    whole = run(folders, Keep(folder=tmp_path / "whole", sample_every=3), **options)
    assert (tmp_path / "whole" / "samples" / "reptile-000003.jpg").exists()
    assert card(tmp_path / "whole")["phases"][0]["reptile"]["steps"] == 2
    keep = Keep(folder=tmp_path / "parts", sample_every=0)
    with pytest.raises(KeyboardInterrupt):
        run(folders, keep, stop_at("reptile", 2), **options)
    assert same(run(folders, dataclasses.replace(keep, resume=True), **options), whole)


def test_steps_after_the_checkpoint_leave_the_log_and_are_taken_again(
    whole: Whole, folders: Folders, tmp_path: Path
) -> None:
    """A machine that stops without a word leaves a log that is ahead of the checkpoint, and half a line."""
    keep = Keep(folder=tmp_path, every=2, sample_every=0)

    class Vanish(BaseException):
        pass

    def vanish(name: str, at: Progress) -> None:
        if (name, at.step) == ("bilevel", 3):
            raise Vanish

    kept = tmp_path / "bilevel.checkpoint.safetensors"

    def save_second(name: str, at: Progress) -> None:
        if (name, at.step) == ("bilevel", 2):
            early.append(kept.read_bytes())
        vanish(name, at)

    early: list[bytes] = []
    with pytest.raises(Vanish):
        run(folders, keep, save_second, **BOTH)
    kept.write_bytes(early[0])  # the third step is the last one, which writes too: go back
    with (tmp_path / "log.csv").open("a") as file:
        file.write("bilevel,4")
    assert ("bilevel", 3) in log(tmp_path)
    assert same(run(folders, dataclasses.replace(keep, resume=True), **BOTH), whole.network)
    assert log(tmp_path) == EVERY_STEP


def test_a_finished_run_is_done_when_resumed_and_may_go_on_for_longer(folders: Folders, tmp_path: Path) -> None:
    keep = Keep(folder=tmp_path, sample_every=0, resume=True)
    first = run(folders, keep, steps=1)
    told: list[int] = []
    assert same(first, run(folders, keep, lambda _, at: told.append(at.step), steps=1))
    assert told == []
    longer = run(folders, keep, lambda _, at: told.append(at.step), steps=2)
    assert told == [2] and not same(first, longer) and log(tmp_path) == [("bilevel", 1), ("bilevel", 2)]


def test_minutes_end_a_run_and_more_of_them_continue_it(folders: Folders, tmp_path: Path) -> None:
    keep = Keep(folder=tmp_path, sample_every=0, resume=True)
    run(folders, keep, minutes=1e-3)  # 60 ms: over after the first step, or the second
    steps = card(tmp_path)["phases"][0]["steps"]
    assert 1 <= steps <= 3 and log(tmp_path)[-1] == ("bilevel", steps)
    run(folders, keep, minutes=1e3, steps=steps + 1)  # whichever comes first
    assert log(tmp_path) == [("bilevel", step) for step in range(1, steps + 2)]


def test_a_run_of_other_options_is_refused_by_their_names(folders: Folders, tmp_path: Path) -> None:
    keep = Keep(folder=tmp_path, sample_every=0, resume=True)
    run(folders, keep, steps=1)
    with pytest.raises(BadModel, match=r"checkpoint of another run: it has size 32 \(now 48\)"):
        run(folders, keep, steps=2, size=48)
    other = folders._replace(content=folders.validation, validation=folders.content)
    with pytest.raises(BadModel, match=r"it has photos '\w+' \(now '\w+'\), validation"):
        run(other, keep, steps=2)


def test_a_run_that_is_not_resumed_begins_a_log_of_its_own(folders: Folders, tmp_path: Path) -> None:
    keep = Keep(folder=tmp_path, sample_every=0)
    run(folders, keep, warm_steps=1)
    run(folders, keep, steps=1)
    assert log(tmp_path) == [("bilevel", 1)]


def test_numbers_that_run_away_are_a_sentence(folders: Folders, tmp_path: Path) -> None:
    shared = shared_network("fast")
    start = Network(FAST, shared.weights, np.full_like(shared.start, np.inf))
    with pytest.raises(BadModel, match="diverged .*use smaller learning rates"):
        train(start, data(folders), TrainOptions(**SMALL, steps=3), Keep(folder=tmp_path, sample_every=0))
    assert log(tmp_path) == [] and not (tmp_path / NETWORK_FILE).exists()


# Pictures


def test_corrupt_pictures_are_skipped_and_counted(folders: Folders, tmp_path: Path) -> None:
    broken = painting_folder(tmp_path / "styles", 2)
    (broken / "2.jpg").write_bytes(b"no picture")
    content = photo_folder(tmp_path / "content", 1)
    (content / "cut.png").write_bytes((content / "00.png").read_bytes()[:200])
    keep = Keep(folder=tmp_path / "run", sample_every=0)
    told: list[str] = []
    options = TrainOptions(**{**SMALL, "steps": 4})
    train(shared_network("fast"), data(Folders(broken, content, folders.validation)), options, keep, note=told.append)
    facts = card(tmp_path / "run")
    assert facts["skipped"] == 2 and facts["paintings"] == 3
    assert len(told) == 1 and all(word in told[0] for word in ("2 pictures", "2.jpg", "cut.png"))


def test_nothing_but_corrupt_pictures_is_a_sentence(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "styles").mkdir()
    (tmp_path / "styles" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="none of the 1 pictures in .* can be read; the first: .* is not a picture"):
        run(folders._replace(styles=tmp_path / "styles"), Keep(folder=tmp_path / "run"), steps=1)


def test_a_photo_in_both_folders_is_refused_even_under_another_name(folders: Folders, tmp_path: Path) -> None:
    validation = photo_folder(tmp_path / "validation", 2, first=30)
    other = validation / "holiday.png"
    other.write_bytes((folders.content / "01.png").read_bytes())
    with pytest.raises(BadOption, match="are the same photo; the outer loss wants photos that") as caught:
        Data.in_folders(folders.styles, folders.content, validation, size=32)
    assert str(other) in str(caught.value) and str(folders.content / "01.png") in str(caught.value)
    with pytest.raises(BadOption, match="are the same photo"):
        Data.in_folders(folders.styles, folders.content, folders.content, size=32)


def names(photos: Photos) -> list[str]:
    assert isinstance(photos.pictures, module.PictureFolder)
    return [path.name for path in photos.pictures.paths]


def test_without_a_second_folder_every_fifth_photo_is_held_out(folders: Folders, tmp_path: Path) -> None:
    content = photo_folder(tmp_path / "content", 11)
    split = Data.in_folders(folders.styles, content, None, size=32)
    assert names(split.validation) == ["00.png", "05.png", "10.png"]
    assert sorted([*names(split.content), *names(split.validation)]) == [f"{i:02}.png" for i in range(11)]
    save(photo(5), content / "twin.png")  # a copy of one that is held out
    split = Data.in_folders(folders.styles, content, None, size=32)
    assert "05.png" in names(split.validation) and not {"05.png", "twin.png"} & {*names(split.content)}


def test_too_few_photos_to_hold_some_out_are_a_sentence(folders: Folders) -> None:
    with pytest.raises(BadOption, match="holds 3 photos; a part is kept for the outer loss: give 5 or more"):
        Data.in_folders(folders.styles, folders.content, None, size=32)


# Options


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 0}, "steps is 0; it must lie between 1"),
        ({"steps": 1, "minutes": 0.0}, "minutes is 0"),
        ({"warm_steps": 0}, "warm steps is 0"),
        ({"steps": 1, "size": 130}, "size is 130; it must be a multiple of 4"),
        ({"steps": 1, "style_size": 8}, "style size is 8"),
        ({"steps": 1, "styles": 0}, "styles is 0"),
        ({"steps": 1, "batch": 1000}, "batch is 1000"),
        ({"steps": 1, "weight_rate": float("nan")}, "weight rate is nan"),
        ({"steps": 1, "stable": -1}, "stable is -1"),
        ({"steps": 1, "features": "mine"}, "features is 'mine'; it must be one of shipped, torchvision"),
        ({}, "the run has no end; give a number of steps or of minutes"),
    ],
)
def test_options_are_checked_when_made(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadOption, match=sentence):
        TrainOptions(**changes)


def test_the_paper_s_numbers_are_the_default() -> None:
    options = TrainOptions(steps=1)
    assert (options.styles, options.batch, options.size, options.inner.steps) == (4, 4, 256, 1)
    assert (options.inner.moves, options.inner.first_order) == ("norm", False)
    assert options.stable > 0


# The command line

TINY = ["--styles-per-step", 2, "--batch", 1, "--size", 32, "--style-size", 32, "--arithmetic", "fp32"]
TINY += ["--threads", 1, "--device", "cpu", "--sample-every", 0]


def command(folders: Folders, folder: Path, *arguments: object) -> Result:
    given = ["--styles", folders.styles, "--content", folders.content, "--val-content", folders.validation]
    return CliRunner().invoke(vidstyle, ["train", *(str(a) for a in (*given, "--run", folder, *TINY, *arguments))])


def assert_sentence(result: Result, exit_code: int, *words: str) -> None:
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit)
    for word in words:
        assert word in result.stderr, result.stderr


def test_every_option_of_the_command_reaches_the_card(folders: Folders, tmp_path: Path) -> None:
    folder, start = tmp_path / "run", tmp_path / "start.safetensors"
    shared_network("fast").save(start)
    options = ["--start", start, "--warm-steps", 1, "--steps", 2, "--inner-steps", 2, "--inner-rate", 0.02, "--inner"]
    options += ["norm", "--first-order", "--rate", 2e-4, "--no-stable"]
    options += ["--style-weight", 5, "--content-weight", 2, "--detail-weight", 0.5]
    options += ["--contrast-weight", 7, "--tone-weight", 3]
    result = command(folders, folder, *options, "--seed", 3, "--checkpoint-every", 1)
    assert result.exit_code == 0, result.output
    network = Network.load(folder / NETWORK_FILE)
    assert result.stdout == f"{folder / NETWORK_FILE}: fast network {network.digest[:12]}\n"
    facts = card(folder)
    assert [phase["steps"] for phase in facts["phases"]] == [1, 2]
    assert facts["phases"][0]["start"] == shared_network("fast").digest[:12]
    assert facts["phases"][1]["inner"] == {"steps": 2, "rate": 0.02, "moves": "norm", "first_order": True}
    assert facts["phases"][1]["rates"][0] == 2e-4
    assert facts["loss"] == {
        "content": 2.0,
        "style": 5.0,
        "detail": 0.5,
        "contrast": 7.0,
        "tone": 3.0,
        "variation": 0.02,
    }
    assert facts["stable"] == 0


def test_the_command_refuses_a_folder_that_holds_a_run_and_resumes_it_when_told(
    folders: Folders, tmp_path: Path
) -> None:
    assert command(folders, tmp_path, "--steps", 1).exit_code == 0
    before = (tmp_path / NETWORK_FILE).read_bytes()
    refused = command(folders, tmp_path, "--steps", 2)
    assert_sentence(refused, 2, f"output {tmp_path} exists", "--resume")
    assert (tmp_path / NETWORK_FILE).read_bytes() == before
    assert command(folders, tmp_path, "--steps", 2, "--resume").exit_code == 0
    assert log(tmp_path) == [("bilevel", 1), ("bilevel", 2)]


def test_a_network_of_random_weights_may_be_the_start(folders: Folders, tmp_path: Path) -> None:
    result = command(folders, tmp_path, "--warm-steps", 1)  # and no bilevel phase is asked for
    assert result.exit_code == 0, result.output
    facts = card(tmp_path)
    assert [phase["phase"] for phase in facts["phases"]] == ["warm"]
    assert facts["phases"][0]["start"] == random_network("fast", 0).digest[:12]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--steps", "0"], 2, ["--steps", "0"]),
        (["--inner", "some"], 2, ["--inner", "norm", "all"]),
        (["--inner-rate", "nan"], 2, ["inner rate is nan"]),
        (["--rate", "7"], 2, ["weight rate is 7; it must lie between"]),
        (["--size", "34"], 2, ["size is 34; it must be a multiple of 4"]),
        (["--start", "none.safetensors"], 1, ["cannot read none.safetensors"]),
        (["--val-content", "none"], 1, ["cannot read the folder none"]),
    ],
)
def test_a_wrong_option_is_a_sentence(
    arguments: list[str], code: int, words: list[str], folders: Folders, tmp_path: Path
) -> None:
    assert_sentence(command(folders, tmp_path / "run", "--steps", 1, *arguments), code, *words)
    assert not (tmp_path / "run" / NETWORK_FILE).exists()


def test_a_run_folder_that_cannot_be_is_wrong_usage(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert_sentence(command(folders, tmp_path / "file", "--steps", 1), 2, "is a file; name a folder")
    assert_sentence(command(folders, tmp_path / "file" / "run", "--steps", 1), 2, "cannot write to")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupted_command_says_how_to_go_on(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = TrainingLog.write

    def interrupt(self: TrainingLog, phase: str, at: Progress) -> None:
        write(self, phase, at)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingLog, "write", interrupt)
    result = command(folders, tmp_path, "--steps", 3)
    assert result.exit_code != 0
    assert f"The run is kept in {tmp_path}; continue it with --resume" in result.stderr
    monkeypatch.setattr(TrainingLog, "write", write)
    assert command(folders, tmp_path, "--steps", 3, "--resume").exit_code == 0
    assert log(tmp_path) == [("bilevel", 1), ("bilevel", 2), ("bilevel", 3)]


# TensorBoard


def test_without_its_package_tensorboard_is_a_sentence(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = command(folders, tmp_path, "--steps", 1, "--tensorboard")
    assert_sentence(result, 1, "the log for TensorBoard needs its package", "pip install tensorboard")


def test_tensorboard_reads_every_step_of_an_interrupted_run_once(folders: Folders, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    keep = Keep(folder=tmp_path, every=100, sample_every=0, tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        run(folders, keep, stop_at("bilevel", 2), **BOTH)
    run(folders, dataclasses.replace(keep, resume=True), **BOTH)
    for phase in ("warm", "bilevel"):
        events = accumulator.EventAccumulator(str(tmp_path / "events" / phase)).Reload()
        assert [event.step for event in events.Scalars("total")] == [1, 2, 3]
        assert all(np.isfinite(event.value) for event in events.Scalars("style"))
