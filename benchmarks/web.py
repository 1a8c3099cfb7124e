"""How large is the site of `vidstyle web`, how exact, how soon does it paint, and what do its passes cost?

    python benchmarks/web.py NAME

In Chromium without a screen, with WebGPU played by the processor (SwiftShader), from a web server on loopback. Times
of passes are told as multiples of a plain copy of the same frame: of a graphics card they say how the work is spread,
not how long it takes. Signal to noise is that of paintings of 64x48 beside torch's of the same shipped style; what the
compact form of the shipped styles loses is compact.py's matter. About two minutes.

Results go to benchmarks/results/NAME/web.json and to the screen.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from likeness import psnr
from measured import RESULTS, ResultFile, load, machine
from numpy.typing import NDArray

from vidstyle.data import PHOTOS
from vidstyle.gallery import load_style, style_names
from vidstyle.models.architecture import FAST, Network
from vidstyle.models.torch_net import TransformNet
from vidstyle.web.site import write_site

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import Browser, Page

LIVE = "document.getElementById('stage').dataset.state === 'live'"
NOTE_LIVE = """new MutationObserver((_, observer) => {
  if (document.getElementById('stage')?.dataset.state !== 'live') return;
  window.liveAt = performance.now();
  observer.disconnect();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ['data-state'] });"""
VISITS = 3
FRAME, ROUNDS = (192, 128), 7  # whole tiles
TARGETS = {"first_frame_seconds": 3.0, "psnr_db": 40.0, "passes": 24, "kflop_a_pixel": 50.0, "site_mb": 3.0}
UNIT_GFLOPS = (500.0, 900.0)
"""What an integrated graphics card of 2 TFLOP/s at its peak is taken to reach: a quarter to under a half of it."""
COPY = """
@group(0) @binding(0) var from_: texture_2d<f32>;
@group(0) @binding(1) var to: texture_storage_2d<rgba8unorm, write>;
@compute @workgroup_size(16, 16) fn main(@builtin(global_invocation_id) pixel: vec3u) {
  textureStore(to, pixel.xy, textureLoad(from_, pixel.xy, 0));
}"""
MEASURE = """(async (width, height, rounds, code) => {
  const { device: { painter } } = await import('/page/app.js');
  const { device } = painter;
  painter.resize(width, height, width, height);
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const usage = GPUTextureUsage.STORAGE_BINDING;
  const to = device.createTexture({ size: [width, height], format: 'rgba8unorm', usage });
  const group = painter.group(pipeline, { 0: painter.painted.createView(), 1: to.createView() });
  const set = device.createQuerySet({ type: 'timestamp', count: 2 });
  const found = painter.buffer(16, GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC);
  const copied = async () => {
    const read = painter.buffer(16, GPUBufferUsage.MAP_READ);
    const encoder = device.createCommandEncoder();
    const timestampWrites = { querySet: set, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
    const pass = encoder.beginComputePass({ timestampWrites });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(Math.ceil(width / 16), Math.ceil(height / 16));
    pass.end();
    encoder.resolveQuerySet(set, 0, 2, found, 0);
    encoder.copyBufferToBuffer(found, 0, read, 0, 16);
    device.queue.submit([encoder.finish()]);
    await read.mapAsync(GPUMapMode.READ);
    const [began, ended] = new BigUint64Array(read.getMappedRange());
    return Number(ended - began) / 1e6;
  };
  const passes = [];
  const copies = [];
  for (let round = 0; round < rounds; round++) {
    copies.push(await copied());
    passes.push(await painter.measure());
  }
  return { copies, passes };
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def painted(network: Network, rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    with torch.no_grad():
        chw = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
        found = TransformNet.from_network(network)(chw, torch.from_numpy(network.start))
    return np.rint(255.0 * found[0].permute(1, 2, 0).numpy())


def photo(path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB of (height, width)."""
    bgr = cv2.imread(str(path))
    assert bgr is not None
    return np.asarray(cv2.resize(bgr, size[::-1], interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)


def of_page(page: Page) -> dict[str, Any]:
    """The signal to noise of what the page paints at 64x48, for each style."""
    rgb = photo(PHOTOS / "astronaut.jpg", (48, 64))
    rgba = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]).tobytes()
    data = base64.b64encode(rgba).decode()
    page.run(
        "(async (data) => { const { painter } = (await import('/page/app.js')).device; painter.resize(64, 48, 64, 48);"
        " const pixels = Uint8ClampedArray.from(atob(data), (one) => one.charCodeAt(0));"
        f" painter.setPicture(await createImageBitmap(new ImageData(pixels, 64, 48))); }})({data!r})"
    )
    found = {}
    for name in style_names("fast"):
        pixels = page.run(
            f"(async () => {{ const {{ device }} = await import('/page/app.js'); const {{ painter }} = device;"
            f" painter.setStyle(await device.style({name!r})); painter.paint();"
            " return btoa(String.fromCharCode(...(await painter.pixels()).data)); })()"
        )
        shown = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(48, 64, 4)[..., :3]
        found[name] = psnr(painted(load_style(name).network, rgb), shown)
    return {"worst_db": min(found.values()), "worst": min(found, key=lambda name: found[name]), "db": found}


def of_passes(page: Page) -> dict[str, Any]:
    """The best time of each pass, as a multiple of a copy's."""
    found = page.run(f"{MEASURE}({FRAME[0]}, {FRAME[1]}, {ROUNDS}, {json.dumps(COPY)})")
    copy = min(found["copies"])
    names = [one["name"] for one in found["passes"][0]]
    best = [min(round_[index]["ms"] for round_ in found["passes"]) for index in range(len(names))]
    return {
        "frame": list(FRAME),
        "passes": len(names),
        "copy_ms": copy,
        "copies": {name: ms / copy for name, ms in zip(names, best, strict=True)},
        "whole_copies": sum(best) / copy,
    }


def estimate() -> dict[str, Any]:
    """How long a frame of 640x360 may take an integrated graphics card, by arithmetic alone."""
    gflop = FAST.flops_per_pixel() * 640 * 360 / 1e9
    return {"gflop_a_frame": gflop, "gflops": list(UNIT_GFLOPS), "ms": [1000 * gflop / rate for rate in UNIT_GFLOPS]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the results, such as epyc-2cores")
    name = parser.parse_args().name
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultFile("web", folder)

    def put(part: str, facts: dict[str, Any]) -> None:
        results.put("web", part, {**facts, "machine": machine(), "load": load()})
        print(part, json.dumps({key: value for key, value in facts.items() if key != "db"}), flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        size = write_site(work / "site")
        style_bytes = [path.stat().st_size for path in (work / "site" / "styles").glob("*")]
        facts = {"mb": size / 1e6, "styles": len(style_bytes), "style_kb": statistics.mean(style_bytes) / 1e3}
        put("site", {**facts, "kflop_a_pixel": FAST.flops_per_pixel() / 1e3})
        put("estimate", estimate())
        with served(work / "site") as address:
            seconds = []
            for visit in range(VISITS):  # with nothing kept from the one before
                with Browser(work / f"visit-{visit}", has_webgpu=True) as browser:
                    page = browser.page()
                    page.call("Page.addScriptToEvaluateOnNewDocument", source=NOTE_LIVE)
                    page.open(address)
                    page.wait("window.liveAt", 300)
                    seconds.append(page.run("window.liveAt") / 1000)
            put("first_frame", {"seconds": statistics.median(seconds), "all": seconds})
            with Browser(work / "browser", has_webgpu=True) as browser:
                page = browser.page(address)
                page.wait(LIVE, 300)
                put("page", of_page(page))
                put("passes", of_passes(page))
    found = results.facts["web"]
    reached = {
        "first_frame_seconds": found["first_frame"]["seconds"],
        "psnr_db": found["page"]["worst_db"],
        "passes": found["passes"]["passes"],
        "kflop_a_pixel": found["site"]["kflop_a_pixel"],
        "site_mb": found["site"]["mb"],
    }
    for figure, target in TARGETS.items():
        print(f"{figure}: {reached[figure]:.4g} (target {target:g})")


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s")
