"""Render a clip in a blend of two styles; sound and timestamps are kept."""

from pathlib import Path

from vidstyle import EncodeOptions, LookOptions, render

clip = Path(__file__).with_name("bunny.mp4")

report = render(
    clip,
    "bunny_blend.mp4",
    style="great_wave:0.6,the_scream:0.4",
    size=(360, None),  # height; the width follows
    look=LookOptions(strength=0.9),
    encode=EncodeOptions(crf=23),
    overwrite=True,
    on_progress=lambda progress: print(f"\r{progress.frames} of {progress.total}", end=""),
)
print(f"\n{report.output}: {report.frames} frames, {report.fps:.1f} fps on {report.backend}")
for note in report.notes:
    print(note)
