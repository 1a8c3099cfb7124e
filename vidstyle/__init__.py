"""Real-time video stylization.

>>> from vidstyle import Stylizer
>>> painted = Stylizer("starry_night")(rgb)      # uint8 (H, W, 3) in and out
"""

__version__ = "0.1.0"
