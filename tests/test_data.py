"""Pictures for training: decoded when they are wanted, kept while there is room, skipped when damaged."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pictures import painting, painting_folder, photo, photo_folder, save
from torch import Tensor

from vidstyle.errors import ImageError
from vidstyle.training import data as module
from vidstyle.training.data import Crops, Paintings, Photos, PictureFolder, Prefetcher, picture_paths, shown
from vidstyle.training.loss import Content, Perceptual


class Reads:
    """Counts which files are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        read = module.read_painting

        def count(path: Path) -> object:
            self.names.append(path.name)
            return read(path)

        monkeypatch.setattr(module, "read_painting", count)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


# Folders


def test_pictures_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.PNG", "deep/er/a.png", "deep/c.webp", "a.bmp"):
        save(photo(0), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    found = [str(path.relative_to(tmp_path)) for path in picture_paths(tmp_path)]
    assert found == ["a.bmp", "b.PNG", "deep/c.webp", "deep/er/a.png"]


def test_a_picture_is_decoded_when_it_is_asked_for_and_once(tmp_path: Path, reads: Reads) -> None:
    folder = PictureFolder(picture_paths(photo_folder(tmp_path, 3)))
    assert len(folder) == 3 and reads.names == []
    for _ in range(2):
        np.testing.assert_array_equal(folder[1], photo(1))
        np.testing.assert_array_equal(folder[-1], photo(2))
    assert reads.names == ["01.png", "02.png"]
    with pytest.raises(IndexError):
        folder[3]
    assert [p.shape for p in folder[:2]] == [(40, 56, 3)] * 2


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, reads: Reads) -> None:
    paths = picture_paths(photo_folder(tmp_path, 3))
    folder = PictureFolder(paths, keep_bytes=2 * photo(0).nbytes)
    for _ in range(2):
        assert [np.array_equal(picture, photo(i)) for i, picture in enumerate(folder)] == [True] * 3
    assert reads.names == ["00.png", "01.png", "02.png", "02.png"]
    assert sum(picture.nbytes for picture in folder._kept.values()) <= 2 * photo(0).nbytes


def test_large_pictures_are_kept_at_the_size_that_is_needed(tmp_path: Path) -> None:
    save(photo(0, (80, 120)), tmp_path / "large.png")
    save(photo(1, (20, 30)), tmp_path / "small.png")
    folder = PictureFolder(picture_paths(tmp_path), shorter_side=40)
    assert folder[0].shape == (40, 60, 3) and folder[1].shape == (20, 30, 3)  # shrunk, never enlarged


def test_the_next_picture_stands_in_for_one_that_cannot_be_decoded(tmp_path: Path, reads: Reads) -> None:
    photo_folder(tmp_path, 3)
    for name in ("01.png", "02.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    folder = PictureFolder(picture_paths(tmp_path))
    np.testing.assert_array_equal(folder[0], photo(0))
    assert folder.skipped == {}
    for _ in range(2):
        np.testing.assert_array_equal(folder[1], photo(0))  # over the end, to the first
    assert {path.name for path in folder.skipped} == {"01.png", "02.png"}
    assert all(str(path) in why for path, why in folder.skipped.items())
    assert sorted(reads.names) == ["00.png", "01.png", "02.png"]  # the damaged ones are not tried again


def test_transparent_parts_are_white_and_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hidden = np.full((20, 24, 4), (0, 255, 0, 0), np.uint8)
    hidden[:10] = (40, 50, 60, 255)
    for name in ("cut.png", "cut.webp", "cut.tif"):
        assert cv2.imwrite(str(tmp_path / name), hidden)
    assert cv2.imwrite(str(tmp_path / "deep.png"), hidden.astype(np.uint16) * 257)
    folder = PictureFolder(picture_paths(tmp_path))
    for picture in folder:
        assert (picture[12:] == 255).all() and np.abs(picture[:8].astype(int) - (60, 50, 40)).max() <= 2
    assert len(folder.notes) == 4 and all("white" in note for note in folder.notes.values())
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_learned_from_is_named_without_a_line_of_opencv(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rgb = photo(0)
    broken = {
        "float.tif": (cv2.imencode(".tif", rgb.astype(np.float32))[1].tobytes(), "float32"),
        "cut.png": (cv2.imencode(".png", rgb)[1].tobytes()[:-30], "cut short"),
        "cut.jpg": (cv2.imencode(".jpg", rgb)[1].tobytes()[:-30], "cut short"),
        "small.bmp": (cv2.imencode(".bmp", rgb[:8])[1].tobytes(), "at least 16"),
        "empty.webp": (b"", "empty"),
    }
    for name, (data, word) in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=f"{name}.*{word}"):
            module.read_picture(tmp_path / name)
    with pytest.raises(ImageError, match=r"gone\.png"):
        module.read_picture(tmp_path / "gone.png")
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_nothing_that_can_be_decoded_is_a_sentence(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(ImageError, match="none of the 2 pictures in .* can be read; the first: .*a.png is not a pic"):
        PictureFolder(picture_paths(tmp_path))[0]


def test_a_folder_s_digest_changes_with_any_file_and_needs_no_decoding(tmp_path: Path, reads: Reads) -> None:
    photo_folder(tmp_path / "one", 2)
    photo_folder(tmp_path / "two", 2)
    digests = [Photos.in_folder(tmp_path / name).digest for name in ("one", "two")]
    assert digests[0] == digests[1]
    save(photo(9, (44, 56)), tmp_path / "two" / "01.png")
    digests.append(Photos.in_folder(tmp_path / "two").digest)
    (tmp_path / "two" / "01.png").rename(tmp_path / "two" / "02.png")
    digests.append(Photos.in_folder(tmp_path / "two").digest)
    assert len(set(digests)) == 3 and reads.names == []


def test_photos_of_a_folder_are_cropped_like_those_in_memory(tmp_path: Path) -> None:
    folder = Photos.in_folder(photo_folder(tmp_path, 3))
    memory = Photos([photo(i) for i in range(3)])
    assert torch.equal(folder.batch(4, 32, (1, 2)), memory.batch(4, 32, (1, 2)))
    assert torch.equal(folder.middles(32), memory.middles(32))
    assert folder.middles(32, count=2).shape == (2, 3, 32, 32)


# Paintings


@pytest.fixture(scope="module")
def vgg() -> Perceptual:
    return Perceptual()


def test_a_painting_s_targets_are_those_of_the_loss_and_computed_once(
    tmp_path: Path, vgg: Perceptual, reads: Reads
) -> None:
    paintings = Paintings(painting_folder(tmp_path, 3), 32, vgg)
    assert len(paintings) == 3
    targets = paintings.targets([1, 0, 1])
    assert [tuple(layer.shape) for layer in targets] == [*((3, c + 1, c) for c in (64, 128, 256, 512)), (3, 3), (3, 33)]
    shrunk = PictureFolder(picture_paths(tmp_path), shorter_side=32)[1]
    expected = vgg.style_target(module.painting_tensor(shrunk, 32))
    for layer, target in zip(targets, expected, strict=True):
        torch.testing.assert_close(layer[:1], target)
        assert torch.equal(layer[0], layer[2]) and not torch.equal(layer[0], layer[1])
    reads.names.clear()
    assert all(torch.equal(a, b) for a, b in zip(paintings.targets([1, 0, 1]), targets, strict=True))
    assert reads.names == []


def test_targets_that_there_is_no_room_for_are_computed_again(
    tmp_path: Path, vgg: Perceptual, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    paintings = Paintings(painting_folder(tmp_path, 1), 32, vgg)
    first, again = paintings.targets([0]), paintings.targets([0])
    assert reads.names == ["0.png", "0.png"]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_thumbnail_is_the_middle_of_the_painting(tmp_path: Path, vgg: Perceptual) -> None:
    paintings = Paintings(painting_folder(tmp_path, 1), 48, vgg)
    thumbnail = paintings.thumbnail(0, 48)
    expected = torch.from_numpy(painting(0)[:, 4:52].copy()).permute(2, 0, 1)[None] / 255  # it is 48x56
    torch.testing.assert_close(thumbnail, expected)


@pytest.mark.parametrize(("count", "paintings"), [(4, 20), (4, 7), (5, 2)])
def test_every_pass_shows_every_painting_once_in_an_order_of_its_own(count: int, paintings: int) -> None:
    seen = [index for step in range(2 * paintings) for index in shown(step, count, paintings, seed=0)]
    passes = [tuple(seen[i : i + paintings]) for i in range(0, len(seen), paintings)]
    assert all(sorted(one) == list(range(paintings)) for one in passes)
    assert len(set(passes)) > 1
    assert seen != [index for step in range(2 * paintings) for index in shown(step, count, paintings, seed=1)]


# Prefetcher


def test_batches_come_in_the_order_of_the_steps_each_made_once_and_one_batches() -> None:
    made: list[int] = []
    next_is_made = threading.Event()

    def make(step: int) -> Tensor:
        made.append(step)
        if step == 4:
            next_is_made.set()
        assert threading.current_thread().name.startswith("vidstyle-prefetch")
        return torch.tensor(step)

    with Prefetcher(make) as batches:
        assert [batches(step).item() for step in (0, 1, 2, 3)] == [0, 1, 2, 3]
        assert next_is_made.wait(10)  # while nobody has asked for it
    assert made == [0, 1, 2, 3, 4]


def test_a_run_that_goes_on_later_gets_the_batch_of_its_step() -> None:
    with Prefetcher(lambda step: 10 * step) as batches:
        assert [batches(7), batches(8), batches(3), batches(4)] == [70, 80, 30, 40]


def test_what_goes_wrong_in_the_thread_comes_out_with_its_step_and_the_thread_ends() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ImageError("no more photos")
        return step

    with pytest.raises(ImageError, match="no more photos"), Prefetcher(make) as batches:
        assert [batches(0), batches(1)] == [0, 1]  # that the next one failed is not told yet
        batches(2)
    assert not [t for t in threading.enumerate() if t.name.startswith("vidstyle-prefetch")]


# Crops


class Counting(Perceptual):
    """Counts the photos whose content is computed."""

    asked = 0

    def content_target(self, rgb: Tensor) -> Content:
        self.asked += len(rgb)
        return super().content_target(rgb)


def test_a_crop_s_content_is_its_own_and_computed_once() -> None:
    vgg = Counting()
    crops = Crops(Photos.shipped(), vgg, size=32, count=3, seed=7)
    for step in range(6):
        photo, content = crops.batch(2, (0, step))
        assert photo.shape == (2, 3, 32, 32)
        for ours, theirs in zip(content, Perceptual.content_target(vgg, photo), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)
        again, _ = crops.batch(2, (0, step))
        assert torch.equal(photo, again)
    assert vgg.asked == 3  # twelve crops shown, of three
