"""``vidstyle export``: a style as an ONNX graph of float pixels, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from vidstyle.cli import options as opt
from vidstyle.cli.terminal import echo


@click.command()
@click.argument("style")
@opt.plain(
    opt.option("-o", "--output", type=opt.FILE, required=True, help="ONNX file to write."),
    opt.option("--size", type=opt.FULL_SIZE, help="The one size of its pictures."),
    opt.flag("--dynamic", "Take pictures of every size from 8x8 on.  [default, without --size]"),
    opt.overwrite_option("Replace the file if it exists."),
)
def export(style: str, output: Path, size: tuple[int, int] | None, dynamic: bool, overwrite: bool) -> None:
    """Write STYLE, or a blend such as a:0.7,b:0.3, as an ONNX graph for other programs.

    Input `image` and output `painted` are RGB in [0, 1], float32 of shape (1, 3, height, width). Some programs take
    graphs of one --size only, or run them faster.
    """
    from vidstyle.files import check_output, write_whole
    from vidstyle.gallery import load_blend
    from vidstyle.graph.export import float_onnx_from_network

    if dynamic and size:
        raise click.UsageError("--dynamic is for pictures of every size, --size for those of one; choose")
    check_output(output, overwrite=overwrite)
    graph = float_onnx_from_network(load_blend(style).network, size)
    write_whole(output, graph.SerializeToString(), overwrite=overwrite)
    sides = "every size from 8x8 on" if size is None else f"{size[1]}x{size[0]}"
    echo(f"{output}: {graph.graph.name}, {sides}, opset {graph.opset_import[0].version}")
