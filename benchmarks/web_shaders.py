"""The shaders of `vidstyle web` as graphics cards get them, with large tiles, in FP16 and in FP32.

    python benchmarks/web_shaders.py NAME [--size 640x360]

Chromium's software adapter has no FP16 and gets smaller tiles, so what cards get is run here by wgpu on what Vulkan
there is: without a graphics card Mesa's llvmpipe (apt install mesa-vulkan-drivers). Told is the signal to noise of a
painting beside torch's of the same style. Needs Chromium, which writes them out, and wgpu of PyPI; half a minute.

Results go to benchmarks/results/NAME/web.json and to the screen.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import wgpu
from likeness import psnr
from measured import RESULTS, ResultFile, load, machine
from numpy.typing import NDArray
from web import Browser, painted, photo, served

from vidstyle.data import PHOTOS
from vidstyle.gallery import DEFAULT_STYLE, load_style
from vidstyle.web.site import write_site

TILE = 16
WRITE_OUT = """(async (style) => {
  const network = await import('./page/network.js');
  const { ADDS, CENTERS, KEEPS, convolution, TILINGS, unpacking } = await import('./page/shaders.js');
  const { CONVOLUTIONS, groupsOf, LAYOUT, readStart, readStyle } = network;
  const read = async (path) => (await fetch(path)).arrayBuffer();
  const start = readStart(await read('page/network.safetensors'));
  const weights = await readStyle(await read(`styles/${style}.safetensors`), start);
  const bytes = new Uint8Array(weights.buffer);
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  const code = [false, true].map((half) => [
    unpacking({ isVideo: false, half, tiling: TILINGS.card }),
    ...CONVOLUTIONS.map(({ load, store }, i) =>
      convolution({ ...groupsOf(i), load, store, half, tiling: TILINGS.card })),
  ]);
  const flags = CONVOLUTIONS.map(
    ({ adds, keeps, centers }) => (adds ? ADDS : 0) | (keeps ? KEEPS : 0) | (centers ? CENTERS : 0));
  return { weights: btoa(text), layout: LAYOUT, convolutions: CONVOLUTIONS, code, flags };
})"""


class Painting:
    """A picture painted once, by the passes that the page would run."""

    def __init__(self, adapter: Any, rgb: NDArray[np.uint8], told: dict[str, Any], *, half: bool) -> None:
        self.device = adapter.request_device_sync(required_features=["shader-f16"] if half else [])
        self.programs: dict[str, Any] = {}
        self.encoder = self.device.create_command_encoder()
        height, width = rgb.shape[:2]
        self.cells = -(-max(8, width) // 4), -(-max(8, height) // 4)
        groups = [-(-side // TILE) for side in self.cells]
        double_groups = [-(-2 * side // TILE) for side in self.cells]
        weights = np.frombuffer(base64.b64decode(told["weights"]), np.float32)
        all_weights = self.buffer(weights.nbytes, weights)
        channel = self.cells[0] * self.cells[1] * (2 if half else 4)
        image, *kept = (self.buffer(48 * channel) for _ in range(3))
        results = self.buffer(48 * channel), self.buffer(64 * channel)
        partial = [self.buffer(512 * groups[0] * groups[1]) for _ in range(2)]
        unread = self.buffer(16), self.buffer(16)
        tail = np.array([*weights[told["layout"]["bias"] :][:3], 1], np.float32).tobytes()

        def frame(scale: int, flags: int) -> dict[str, Any]:
            numbers = [scale * self.cells[0], scale * self.cells[1], groups[0] * groups[1], flags]
            return whole(self.buffer(32, np.array(numbers, np.uint32).tobytes() + tail, wgpu.BufferUsage.UNIFORM))

        def part(place: dict[str, int]) -> dict[str, Any]:
            return {"buffer": all_weights, **place}

        usage = wgpu.TextureUsage
        still = self.texture(width, height, usage.TEXTURE_BINDING | usage.COPY_DST)
        rgba = np.ascontiguousarray(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]))
        pitch = {"bytes_per_row": 4 * width, "rows_per_image": height}
        self.device.queue.write_texture({"texture": still}, rgba, pitch, (width, height, 1))
        result = self.texture(width, height, usage.STORAGE_BINDING | usage.COPY_SRC)

        size = self.buffer(16, np.array([width, height, 1, 0], np.uint32), wgpu.BufferUsage.UNIFORM)
        sampler = self.device.create_sampler(mag_filter="linear", min_filter="linear")
        unpack, *convolutions = told["code"][half]
        # wgpu does not know this function; in the middle of a texel the other one reads the same.
        call = "textureSampleBaseClampToEdge(picture, smooth_, at)"
        unpack = unpack.replace(call, "textureSampleLevel(picture, smooth_, at, 0)")
        entries = [frame(1, 0), whole(size), still.create_view(), sampler, whole(image), whole(partial[0])]
        self.run(unpack, dict(enumerate(entries)), groups)
        blocks = 0
        for index, conv in enumerate(told["convolutions"]):
            is_last = conv["store"] == "picture"
            bound = {
                0: frame(2 if is_last else 1, told["flags"][index]),
                1: whole(results[(index + 1) % 2] if index else image),
                2: part(told["layout"]["passes"][index]["weights"]),
                3: whole(partial[index % 2]),
                7: whole(image if is_last else results[index % 2]),
                8: result.create_view() if is_last else whole(partial[(index + 1) % 2]),
            }
            bound[4] = part(told["layout"]["passes"][max(index - 1, 0)]["affine"])
            if conv["load"] == "body":
                bound[5] = whole(kept[(blocks + 1) % 2] if conv.get("adds") else unread[0])
                bound[6] = whole(kept[blocks % 2] if conv.get("keeps") else unread[1])
                blocks += bool(conv.get("keeps"))
            self.run(convolutions[index], bound, double_groups if is_last else groups)
        rows = -(-4 * width // 256) * 256
        out = self.buffer(rows * height)
        to = {"buffer": out, "bytes_per_row": rows, "rows_per_image": height}
        self.encoder.copy_texture_to_buffer({"texture": result}, to, (width, height, 1))
        self.device.queue.submit([self.encoder.finish()])
        found = np.frombuffer(self.device.queue.read_buffer(out), np.uint8).reshape(height, rows)
        self.rgb = found[:, : 4 * width].reshape(height, width, 4)[..., :3]

    def buffer(self, size: int, content: Any = None, usage: int = wgpu.BufferUsage.STORAGE) -> Any:
        usage |= wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        made = self.device.create_buffer(size=size, usage=usage)
        if content is not None:
            self.device.queue.write_buffer(made, 0, content)
        return made

    def texture(self, width: int, height: int, usage: int) -> Any:
        return self.device.create_texture(size=(width, height, 1), format="rgba8unorm", usage=usage)

    def run(self, code: str, bound: dict[int, Any], groups: list[int]) -> None:
        if code not in self.programs:
            compute = {"module": self.device.create_shader_module(code=code), "entry_point": "main"}
            self.programs[code] = self.device.create_compute_pipeline(layout="auto", compute=compute)
        program = self.programs[code]
        entries = [{"binding": binding, "resource": resource} for binding, resource in bound.items()]
        group = self.device.create_bind_group(layout=program.get_bind_group_layout(0), entries=entries)
        made = self.encoder.begin_compute_pass()
        made.set_pipeline(program)
        made.set_bind_group(0, group)
        made.dispatch_workgroups(*groups)
        made.end()


def whole(buffer: Any) -> dict[str, Any]:
    return {"buffer": buffer, "offset": 0, "size": buffer.size}


def written_out() -> dict[str, Any]:
    """The shaders and weights, from the page's own modules."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_site(work / "site")
        (work / "site" / "blank.html").write_text("<!doctype html>")
        with served(work / "site") as address, Browser(work / "browser") as browser:
            return dict(browser.page(f"{address}blank.html").run(f"{WRITE_OUT}({DEFAULT_STYLE!r})"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the results, such as epyc-2cores")
    parser.add_argument("--size", default="640x360")
    words = parser.parse_args()
    width, height = map(int, words.size.split("x"))
    told = written_out()
    adapter = wgpu.gpu.request_adapter_sync()
    rgb = photo(PHOTOS / "astronaut.jpg", (height, width))
    padding = [(0, -side % 4) for side in (height, width)]
    wanted = painted(load_style(DEFAULT_STYLE).network, np.pad(rgb, (*padding, (0, 0)), "edge"))[:height, :width]
    facts = {"frame": [width, height], "adapter": adapter.summary}
    for half, key in ((False, "fp32_db"), (True, "fp16_db")):
        if half and "shader-f16" not in adapter.features:
            continue
        found = Painting(adapter, rgb, told, half=half).rgb
        facts[key] = psnr(wanted, found)
        print(f"{key}: {facts[key]:.1f}")
    folder = RESULTS / words.name
    folder.mkdir(parents=True, exist_ok=True)
    ResultFile("web", folder).put("web", "shaders", {**facts, "machine": machine(), "load": load()})


if __name__ == "__main__":
    main()
