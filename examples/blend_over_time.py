"""Turn one style into another while the video runs: blending is arithmetic on style vectors."""

from collections.abc import Iterator
from pathlib import Path

from vidstyle import EncodeOptions, Frame, LookOptions, Stylizer, stylize_stream
from vidstyle.gallery import load_style
from vidstyle.models.style import blend
from vidstyle.video.reader import VideoReader
from vidstyle.video.writer import VideoWriter

clip = Path(__file__).with_name("bunny.mp4")
first, second = load_style("great_wave"), load_style("the_scream")

with (
    Stylizer(first, look=LookOptions(work_size=240)) as stylizer,
    VideoReader(clip) as source,
    VideoWriter(
        Path("crossfade.mp4"),
        source=source.info,
        source_path=clip,
        form=source.form,
        encode=EncodeOptions(crf=25),
        overwrite=True,
    ) as sink,
):

    def crossfaded() -> Iterator[Frame]:
        for frame in source.frames():
            share = min(frame.seconds / 4.0, 1.0)
            stylizer.style = blend([(first, 1.0 - share), (second, share)])
            yield frame

    stylize_stream(stylizer, crossfaded(), sink.write)
print("crossfade.mp4")
