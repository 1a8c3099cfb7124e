"""Masks: where a frame is painted. A file, a video that runs along, or the people in the picture."""
