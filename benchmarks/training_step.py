"""What a training step takes, by torch's own differentiation and as vidstyle writes it out, in turn.

    python benchmarks/training_step.py NAME [--network fast] [--batch 4] [--size 192] [--rounds 7] [--threads N]

A step paints a batch of photo crops, compares them with photos and painting, and moves every weight. ``plain`` is the
textbook way: autograd through VGG-16 and the norms, upsampling before convolving, contents computed anew; ``own`` is
what `vidstyle adapt` does. Both descend the same loss; the script ends if their gradients differ.
"""

from __future__ import annotations

import argparse
import statistics as numbers
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measured import RESULTS, ResultFile, load, machine
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from vidstyle.data import PHOTOS
from vidstyle.gallery import shared_network
from vidstyle.models import torch_net
from vidstyle.models.architecture import NORM_EPSILON, Conv
from vidstyle.models.torch_net import TransformNet
from vidstyle.system import keep_freed_memory
from vidstyle.training.data import Crops, Photos, painting_tensor, read_picture
from vidstyle.training.device import Compute
from vidstyle.training.loss import BLOCKS, MEAN_RGB, LossWeights, Perceptual, _vgg_tensors

CROPS = 8


class PlainPerceptual(Perceptual):
    """VGG-16 through torch's own convolutions, ReLUs and poolings."""

    def features(self, rgb: Tensor, last_block: int = 3) -> list[Tensor]:
        weights = {name: t.to(self.dtype) for name, t in _vgg_tensors().items()}
        x = (rgb.float() * 255 - torch.tensor(MEAN_RGB).reshape(1, 3, 1, 1)).to(self.dtype)
        x, found = x.contiguous(memory_format=torch.channels_last), []
        with torch.autocast("cpu", enabled=False):
            for index, block in enumerate(BLOCKS[: last_block + 1]):
                x = functional.max_pool2d(x, 2) if index else x
                for name in block:
                    weight = weights[f"{name}.weight"].contiguous(memory_format=torch.channels_last)
                    x = functional.relu_(functional.conv2d(x, weight, weights[f"{name}.bias"], padding=1))
                found.append(x)
        return found


class PlainNet(TransformNet):
    """The network with torch's own convolutions, and its upsampling as it is described."""

    def _conv(self, conv: Conv, x: Tensor) -> Tensor:
        module = self.convs[conv.name.replace(".", "_")]
        radius = conv.kernel // 2 if conv.upsample == 1 else 1
        padded = functional.pad(x, (radius,) * 4, mode="reflect")
        if conv.upsample > 1:
            padded = functional.interpolate(padded, scale_factor=conv.upsample, mode="nearest")
        result: Tensor = module(padded)
        if conv.upsample == 1:
            return result
        extra = conv.upsample - conv.kernel // 2
        return result[..., extra : result.shape[-2] - extra, extra : result.shape[-1] - extra]


def plain_norm(x: Tensor) -> Tensor:
    return functional.group_norm(x.float(), x.shape[1], eps=NORM_EPSILON)


def steps(name: str, batch: int, size: int, compute: Compute) -> dict[str, Callable[[int], list[Tensor]]]:
    """Both ways of a step; each takes its number and gives the gradients of all weights."""
    network, painting = shared_network(name), painting_tensor(read_picture(PHOTOS / "china.jpg"), 384)
    weights, own_norm = LossWeights(), torch_net._norm

    def step(net: TransformNet, loss: Perceptual, cached: bool) -> Callable[[int], list[Tensor]]:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        vector = torch.from_numpy(network.start.copy()).requires_grad_()
        style = loss.style_target(painting)
        crops = Crops(Photos.shipped(), loss, size=size, count=CROPS, seed=0)
        adam = torch.optim.Adam([*net.parameters(), vector], 1e-9)  # weights that stay make the ways comparable
        if cached:
            for number in range(CROPS):
                crops._crop(number)

        def run(number: int) -> list[Tensor]:
            photo, content = crops.batch(batch, (number,))
            content = content if cached else loss.content_target(photo)
            torch_net._norm = own_norm if cached else plain_norm
            adam.zero_grad()
            with compute.autocast():
                painted = net(photo, vector)
            loss.losses(painted, content, style).total(weights).mean().backward()  # type: ignore[no-untyped-call]
            adam.step()
            return [p.grad for p in net.parameters() if p.grad is not None]

        return run

    return {
        "plain": step(PlainNet.from_network(network), PlainPerceptual(compute.dtype), cached=False),
        "own": step(TransformNet.from_network(network), Perceptual(compute.dtype), cached=True),
    }


def likeness(one: list[Tensor], other: list[Tensor]) -> float:
    """The cosine of the angle between two gradients."""
    a, b = (torch.cat([g.flatten().double() for g in gradients]) for gradients in (one, other))
    return (a @ b / (a.norm() * b.norm())).item()


def profiled(run: Callable[[int], list[Tensor]]) -> dict[str, float]:
    """Milliseconds of the eight operations that take longest in a step."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run(0)
    events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    return {event.key: event.self_cpu_time_total / 1e3 for event in events[:8]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the machine: results go to results/NAME/training_step.json")
    parser.add_argument("--network", choices=["fast", "paper"], default="fast")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    compute = Compute(device="cpu", threads=arguments.threads)
    keep_freed_memory()  # as `vidstyle adapt` does, for both
    with compute.limits():
        ways = steps(arguments.network, arguments.batch, arguments.size, compute)
        like = likeness(*(way(0) for way in ways.values()))
        if like < 0.99:
            raise SystemExit(f"the two gradients point apart: the cosine of their angle is {like:.4f}")
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            for name, way in ways.items():
                began = time.perf_counter()
                way(number)
                seconds[name].append(time.perf_counter() - began)
        facts = {
            "load": load(),
            "threads": torch.get_num_threads(),
            "batch": arguments.batch,
            "size": arguments.size,
            "seconds": seconds,
            "ratio": numbers.median(b / a for a, b in zip(*seconds.values(), strict=True)),
            "likeness": like,
            "milliseconds": {name: profiled(way) for name, way in ways.items()},
        }
    result = ResultFile("training_step", Path(RESULTS / arguments.name))
    result.path.parent.mkdir(parents=True, exist_ok=True)
    arithmetic = str(compute.dtype).removeprefix("torch.")
    result.put("machine", arithmetic, machine())
    result.put(arithmetic, f"{arguments.network}, {facts['threads']} threads", facts)
    medians = {name: f"{numbers.median(values):.2f} s" for name, values in seconds.items()}
    print(medians, f"ratio {facts['ratio']:.2f}", f"cosine {like:.4f}")


if __name__ == "__main__":
    main()
