"""Data that ships: photos, of which CREDITS.md beside them says whose they are, and the VGG-16 of the loss."""

from pathlib import Path

PHOTOS = Path(__file__).with_name("photos")
PHOTO_PATHS = sorted(PHOTOS.glob("*.jpg"))
VGG_FILE = Path(__file__).with_name("vgg16_features_fp16.safetensors")
