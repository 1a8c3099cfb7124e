"""Stylize a picture that is a NumPy array: uint8 RGB in, uint8 RGB out."""

import cv2
import numpy as np

from vidstyle import Stylizer

# Any uint8 array of shape (height, width, 3) will do; this one is drawn.
rows, columns = np.mgrid[0:480, 0:641]
sky = np.stack([60 + rows / 4, 120 + rows / 6, 220 - columns / 8], axis=-1)
picture = np.clip(sky, 0, 255).astype(np.uint8)
cv2.circle(picture, (480, 120), 50, (255, 230, 120), -1)
cv2.ellipse(picture, (240, 480), (320, 160), 0, 0, 360, (40, 110, 50), -1)

with Stylizer("starry_night") as stylizer:
    painted = stylizer(picture)

print(f"{picture.shape} -> {painted.shape}, {painted.dtype}, mean color {painted.mean(axis=(0, 1)).round()}")
cv2.imwrite("painted.png", cv2.cvtColor(painted, cv2.COLOR_RGB2BGR))
