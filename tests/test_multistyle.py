"""Many styles on one network: everything is learned together, and can be continued."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vidstyle.errors import BadOption
from vidstyle.gallery import shared_network
from vidstyle.training.compute import Compute
from vidstyle.training.descent import Checkpoint, Progress
from vidstyle.training.multistyle import MultiStyleOptions, _shown, train_many_styles
from vidstyle.training.pictures import Photos

OPTIONS = MultiStyleOptions(steps=4, styles=2, size=32, style_size=32, compute=Compute(arithmetic="fp32", threads=1))


@pytest.fixture(scope="module")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paintings")
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        small = random.integers(0, 256, (5, 5, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{name}.png"), cv2.resize(small, (48, 40), interpolation=cv2.INTER_NEAREST))
    return folder


@pytest.fixture(scope="module")
def photos() -> Photos:
    small = np.random.default_rng(1).integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    return Photos([cv2.resize(p, (64, 48), interpolation=cv2.INTER_CUBIC) for p in small])


def test_weights_and_every_vector_are_learned_and_the_start_is_their_mean(paintings: Path, photos: Photos) -> None:
    start = shared_network("fast")
    seen: list[Progress] = []
    network, vectors = train_many_styles(paintings, photos, start, options=OPTIONS, progress=seen.append)
    assert vectors.shape == (3, 1088) and len(seen) == 4
    assert all(not np.array_equal(vector, start.start) for vector in vectors)
    np.testing.assert_allclose(network.start, vectors.mean(0), atol=1e-6)
    assert network.digest != start.digest


def test_a_run_that_was_interrupted_continues_to_the_same_bits(paintings: Path, photos: Photos, tmp_path: Path) -> None:
    def stop(at: Progress) -> None:
        if at.step == 2:
            raise KeyboardInterrupt

    start, path = shared_network("fast"), tmp_path / "run.safetensors"
    whole, vectors = train_many_styles(paintings, photos, start, options=OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        train_many_styles(paintings, photos, start, options=OPTIONS, checkpoint=Checkpoint(path=path), progress=stop)
    kept = Checkpoint(path=path, resume=True)
    resumed, others = train_many_styles(paintings, photos, start, options=OPTIONS, checkpoint=kept)
    assert resumed.digest == whole.digest and np.array_equal(vectors, others)


def test_each_pass_shows_every_painting_once() -> None:
    shown = [index for step in range(10) for index in _shown(step, 4, 20, seed=0)]
    assert sorted(shown[:20]) == sorted(shown[20:]) == list(range(20))
    assert shown[:20] != shown[20:]


def test_what_does_not_fit_is_a_sentence(paintings: Path, photos: Photos, tmp_path: Path) -> None:
    start = shared_network("fast")
    with pytest.raises(BadOption, match="holds no paintings"):
        train_many_styles(tmp_path, photos, start, options=OPTIONS)
    with pytest.raises(BadOption, match=r"shape \(2, 1088\); there are 3 paintings"):
        train_many_styles(paintings, photos, start, vectors=np.zeros((2, 1088), np.float32), options=OPTIONS)
    with pytest.raises(BadOption, match="size is 30"):
        MultiStyleOptions(size=30)
