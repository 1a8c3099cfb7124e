"""Train what the methods need. Each run is kept in OUT and goes on where it was; its weights end in OUT, too, those of
an interrupted run (Ctrl-C) as well.

    python -m benchmarks.methods.training decoder OUT --photos DIR --paintings DIR --minutes 20
    python -m benchmarks.methods.training adain OUT --photos DIR --paintings DIR --minutes 15
    python -m benchmarks.methods.training meta_networks OUT --photos DIR --paintings DIR --minutes 10
    python -m benchmarks.methods.training johnson OUT --photos DIR --painting starry_night.jpg --steps 2400

`adain` starts from OUT/decoder.safetensors, else from the committed one. What is committed was made so, and copied from
OUT to benchmarks/methods/weights.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts of benchmarks import each other by their bare names

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods import adain, johnson, meta_networks, weights
from methods.base import WEIGHTS
from methods.decoder import Decoder
from methods.vgg import Encoder
from vidstyle.models.architecture import FAST
from vidstyle.models.torch_net import TransformNet
from vidstyle.training.adapt import Interrupted
from vidstyle.training.data import Crops, Paintings, Photos, shown
from vidstyle.training.device import Compute
from vidstyle.training.loss import LossWeights, Perceptual
from vidstyle.training.trainer import Checkpoint, Progress, Schedule, Trainer

Loss = Callable[[int], tuple[Tensor, dict[str, float]]]

SIZE, BATCH = 96, 4
"""Side of a crop, and how many a step has."""
FITTED = 96
"""Crops from which the decoder's linear weights are found."""
META_PAINTINGS, META_STYLE_SIZE = 60, 256
"""Paintings that the meta network learns, and their shorter side."""
PIXELS, CYCLE = 4.0, 1.0
"""Weights of the error of the pixels, and of the features that the decoded picture has."""


def train_decoder(words: argparse.Namespace, compute: Compute) -> None:
    """The blocks, on crops of photos and of paintings: from the best linear ones, each from VGG's own features at even
    steps, each from what the block above it made at odd ones, when what VGG sees in the decoded picture is compared
    too, up to relu3_1."""
    encoder, decoder = Encoder(compute.dtype), Decoder()
    photos, paintings = (Photos.in_folder(folder, shorter_side=160) for folder in (words.photos, words.paintings))
    if not (words.out / "decoder.checkpoint.safetensors").exists():
        rgb = torch.cat([source.batch(FITTED // 2, SIZE, (words.seed, 1 << 30)) for source in (photos, paintings)])
        with torch.no_grad():
            parts = [encoder(some) for some in rgb.split(8)]
        decoder.fit(rgb, [torch.cat(level) for level in zip(*parts, strict=True)])
        weights.write(words.out / "fitted.safetensors", decoder.state_dict(), {"steps": 0, "crops": FITTED})
    decoder = decoder.to(memory_format=torch.channels_last)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        halves = [source.batch(BATCH // 2, SIZE, (words.seed, step)) for source in (photos, paintings)]
        rgb = torch.cat(halves).to(memory_format=torch.channels_last)
        with torch.no_grad():
            levels = encoder(rgb)
        errors, features = {}, levels[3]
        for number in range(4, 0, -1):
            with compute.autocast():
                features = decoder.block(number, levels[number - 1] if step % 2 == 0 else features)
            target = rgb if number == 1 else levels[number - 2]
            errors[f"block {number}"] = functional.mse_loss(features.float(), target.float())
        total = sum(errors[f"block {number}"] for number in (2, 3, 4)) + PIXELS * errors["block 1"]
        if step % 2:
            pairs = zip(encoder(features, 3), levels, strict=False)
            errors["cycle"] = torch.stack([functional.mse_loss(a.float(), b.float()) for a, b in pairs]).sum()
            total = total + CYCLE * errors["cycle"]
        return total, {name: value.item() for name, value in errors.items()}

    finish(words, "decoder", decoder, loss, 3e-4)


def train_adain(words: argparse.Namespace, compute: Compute) -> None:
    """The decoder of AdaIN, from the blocks."""
    known = words.out / "decoder.safetensors"
    encoder, decoder = Encoder(compute.dtype), Decoder().to(memory_format=torch.channels_last)
    weights.load_into(decoder, known if known.exists() else WEIGHTS / "decoder.safetensors")
    photos, paintings = (Photos.in_folder(folder, shorter_side=160) for folder in (words.photos, words.paintings))

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pair = [source.batch(BATCH, SIZE, (words.seed, step)) for source in (photos, paintings)]
        terms = adain.losses(encoder, decoder, *pair)
        return torch.stack([*terms.values()]).sum(), {name: value.item() for name, value in terms.items()}

    finish(words, "adain", decoder, loss, 5e-4)


def train_meta_networks(words: argparse.Namespace, compute: Compute) -> None:
    """The small meta network, on two paintings a step; what VGG sees in them is kept, so they are few."""
    perceptual = Perceptual(compute.dtype)
    paintings = Paintings(words.paintings, META_STYLE_SIZE, perceptual)
    taken = range(0, len(paintings), max(1, len(paintings) // META_PAINTINGS))
    crops = Crops(Photos.in_folder(words.photos, shorter_side=160), perceptual, size=SIZE, count=256, seed=words.seed)
    learned = [meta_networks.statistics_of(paintings.targets([index])) for index in taken]
    meta, net, loss_weights = meta_networks.start(), TransformNet(FAST).requires_grad_(False), LossWeights()
    meta.standardize(torch.stack(learned))

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        totals, figures = [], {}
        for half, index in enumerate(shown(step, 2, len(taken), words.seed)):
            target = paintings.targets([taken[index]])
            photo, content = crops.batch(BATCH // 2, (words.seed, step, half))
            with compute.autocast():
                painted = meta.painted(net, meta_networks.statistics_of(target), photo)
            terms = perceptual.losses(painted, content, target)
            totals.append(terms.total(loss_weights).mean())
            figures = terms.figures()
        return torch.stack(totals).mean(), figures

    finish(words, "meta_networks", meta, loss, 1e-3)


def train_johnson(words: argparse.Namespace, compute: Compute) -> None:
    """Johnson's network for ``words.painting``."""
    if words.painting is None or words.steps is None:
        raise SystemExit("johnson wants a --painting and --steps")
    name = f"johnson-{words.painting.stem}"
    try:
        style = johnson.train(
            words.painting,
            Photos.in_folder(words.photos, shorter_side=256),
            words.steps,
            compute=compute,
            checkpoint=Checkpoint(path=words.out / f"{name}.checkpoint.safetensors", every=25, resume=True),
            watch=lambda at, _: print(at, flush=True),
        )
    except Interrupted as stop:
        style = stop.style
    johnson.write(words.out / f"{name}.safetensors", style)


def finish(words: argparse.Namespace, name: str, module: nn.Module, loss: Loss, rate: float) -> None:
    """Run to the end of ``words.minutes`` or ``words.steps``, and write the weights."""
    parameters = {key: (value, rate) for key, value in module.named_parameters()}
    schedule = Schedule(steps=words.steps, minutes=words.minutes, warm_up=20)
    trainer = Trainer(parameters, schedule, {"method": name, "size": SIZE, "batch": BATCH, "seed": words.seed})
    began, curve = time.strftime("%H:%M:%S"), []

    def report(at: Progress) -> None:
        if at.step % 25 == 0:
            curve.append((at.step, round(at.losses["total"], 4)))
            terms = "  ".join(f"{term} {value:.4f}" for term, value in at.losses.items())
            print(f"{began} {name} step {at.step} of {at.steps}, {at.seconds:.0f} s: {terms}", flush=True)

    checkpoint = Checkpoint(path=words.out / f"{name}.checkpoint.safetensors", every=50, resume=True)
    with suppress(KeyboardInterrupt):
        trainer.run(loss, checkpoint=checkpoint, progress=report)
    card = {"steps": trainer.step, "seconds": round(trainer.seconds), "batch": BATCH, "size": SIZE}
    weights.write(words.out / f"{name}.safetensors", module.state_dict(), card)
    print(f"{words.out / name}.safetensors: {trainer.step} steps, {trainer.seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["decoder", "adain", "meta_networks", "johnson"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos to learn on")
    parser.add_argument("--paintings", type=Path, help="folder of paintings to learn on")
    parser.add_argument("--painting", type=Path, help="of johnson")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads")
    words = parser.parse_args()
    if words.steps is None and words.minutes is None:
        parser.error("the run has no end; give --steps or --minutes")
    compute = Compute(device="cpu", threads=words.threads)
    words.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(words.seed)
    with compute.limits():
        globals()[f"train_{words.what}"](words, compute)


if __name__ == "__main__":
    main()
