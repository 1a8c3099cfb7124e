"""Make a style from a painting and paint a picture in it. Needs `pip install 'vidstyle[train]'`.

Give a number to take that many gradient steps instead of 150.
"""

import sys
from pathlib import Path

from vidstyle import Stylizer
from vidstyle.data import PHOTO_PATHS
from vidstyle.gallery import shared_network, style_names, thumbnail
from vidstyle.imaging.image_io import Still, read_still, write_still
from vidstyle.training.adapt import AdaptOptions, adapt

# Any photo of a painting will do. Here: a picture that ships with vidstyle.
painting = thumbnail(style_names()[0])
photo = PHOTO_PATHS[0]
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150

style = adapt(
    painting,
    shared_network("fast"),
    name="mine",
    options=AdaptOptions(steps=steps),
    progress=lambda at: print(f"\rstep {at.step} of {at.steps}: style loss {at.losses['style']:.3f}", end=""),
)
style.save(Path("mine.safetensors"))

with Stylizer(style) as stylizer:
    painted = stylizer(read_still(photo).rgb)
write_still(Path("in_my_style.png"), Still(painted), overwrite=True)
print(f"\nmine.safetensors ({style.kind}, {style.card['seconds']} s), in_my_style.png")
