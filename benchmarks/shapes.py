"""Does a wider `fast` pay? Networks of other shapes, trained long from random weights, and what each costs in a render.

    python benchmarks/shapes.py NAME PAINTING --learn-on FOLDER [--steps 2000] [--only SHAPE ...] [--pictures FOLDER]

Each shape learns the painting alone, with the same photos, loss and seed, and is measured on the six photos that ship
every 250 steps. Then the network alone paints 640x360 in OpenVINO, all shapes in turn. Results go to
results/NAME/shapes.json as they come; a run that was stopped goes on from its checkpoint in ``--work``. With
``--pictures`` photos are painted there as the folder of a candidate of `quality.py`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from candidates import write
from measured import RESULTS, ResultFile, load, machine

from vidstyle.backends import open_backend
from vidstyle.frame import FrameFormat
from vidstyle.models.architecture import FAST, Architecture, Conv, Network
from vidstyle.models.style import Style
from vidstyle.models.torch_net import TransformNet
from vidstyle.options import BackendOptions
from vidstyle.realtime import frames_per_second
from vidstyle.stylizer import network_program
from vidstyle.training.adapt import AdaptOptions, Measurement, adapt
from vidstyle.training.data import Photos, painting_tensor, picture_paths, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.trainer import Checkpoint

SHAPES: dict[str, Architecture] = {
    "as it is": FAST,
    "trunk of 64": replace(FAST, down=(Conv("stem", 48, 64, 3),), channels=64, up=(Conv("up", 64, 16, 3, upsample=2),)),
    "decoder of 32": replace(FAST, up=(Conv("up", 48, 32, 3, upsample=2),), out=Conv("out", 32, 3, 5, upsample=2)),
}
SIZE = (360, 640)


def trained(shape: Architecture, painting: Path, photos: Photos, options: AdaptOptions, kept: Path) -> Style:
    def show(at: Measurement, _: Style) -> None:
        print(
            f"  step {at.step}: content {at.content:.3f}, style {at.style:.3f}, {at.total(options.loss):.3f}",
            flush=True,
        )

    checkpoint = Checkpoint(path=kept, every=100, resume=True)
    return adapt(painting, Network.blank(shape), options=options, photos=photos, checkpoint=checkpoint, watch=show)


def frames_a_second(shapes: dict[str, Network], rounds: int, seconds: float) -> dict[str, float]:
    """Frames of 640x360 through each network alone on all cores, in turn; medians."""
    form = FrameFormat(height=SIZE[0], width=SIZE[1], pixels="i420")
    planes = tuple(np.random.default_rng(0).integers(0, 256, shape, np.uint8) for shape in form.plane_shapes)
    options = BackendOptions(backend="openvino", precision="bf16")
    opened = {
        name: (open_backend(network_program(one.architecture, form, only=one), options), Style.of(name, one))
        for name, one in shapes.items()
    }
    found: dict[str, list[float]] = {name: [] for name in shapes}
    for number in range(rounds + 1):
        for name, (backend, style) in opened.items():
            fps = frames_per_second(partial(backend.submit, planes, style), backend.in_flight, seconds)
            if number:
                found[name].append(fps)
    for backend, _ in opened.values():
        backend.close()
    return {name: statistics.median(values) for name, values in found.items()}


def paint(network: Network, photos: list[Path], folder: Path, rows: int = 384) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model, vector = TransformNet.from_network(network), torch.from_numpy(network.start)
    for path in photos:
        photo = painting_tensor(read_picture(path), rows)
        height, width = (side // 4 * 4 for side in photo.shape[2:])
        with torch.no_grad():
            painted = model(photo[..., :height, :width], vector)[0].permute(1, 2, 0).numpy()
        write(folder / f"{path.stem}.png", np.asarray((255 * painted).round(), np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results/NAME/shapes.json")
    parser.add_argument("painting", type=Path)
    parser.add_argument("--learn-on", type=Path, required=True, help="folder of photos")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidstyle-shapes")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--photos", type=Path, help="folder of photos for --pictures")
    parser.add_argument("--rounds", type=int, default=5, help="of the frames a second; 0 leaves them out")
    parser.add_argument("--threads", type=int)
    words = parser.parse_args()
    words.work.mkdir(parents=True, exist_ok=True)
    folder = RESULTS / words.name
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultFile("shapes", folder)
    options = AdaptOptions(
        mode="scratch",
        steps=words.steps,
        batch=words.batch,
        crops=512,
        measure_every=250,
        compute=Compute(threads=words.threads),
    )
    photos = Photos.in_folder(words.learn_on)
    networks = {}
    for name in words.only:
        shape = SHAPES[name]
        print(name, flush=True)
        style = trained(shape, words.painting, photos, options, words.work / f"{name.replace(' ', '-')}.{words.steps}")
        networks[name] = style.network
        facts = {"parameters": shape.parameter_count, "flops_per_pixel": shape.flops_per_pixel()}
        results.put("shapes", name, {**facts, "curve": style.card["curve"], "seconds": style.card["seconds"]})
        if words.pictures and words.photos:
            paint(
                style.network,
                picture_paths(words.photos),
                words.pictures / name.replace(" ", "-") / words.painting.stem,
            )
    results.put(
        "machine", "shapes", {**machine(), "painting": words.painting.stem, "steps": words.steps, "batch": words.batch}
    )
    if words.rounds:
        before = load()
        results.put("fps", "shapes", {"load_before": before, **frames_a_second(networks, words.rounds, 3)})
    print(results.facts.get("fps"))


if __name__ == "__main__":
    main()
