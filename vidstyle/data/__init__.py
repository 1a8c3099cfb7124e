"""Data that ships: photos, of which CREDITS.md beside them says whose they are, the VGG-16 of the
loss, and the networks that find people."""

from pathlib import Path

PHOTOS = Path(__file__).with_name("photos")
PHOTO_PATHS = sorted(PHOTOS.glob("*.jpg"))
VGG_FILE = Path(__file__).with_name("vgg16_features_fp16.safetensors")
PERSON_FILE = Path(__file__).with_name("person.onnx")
PERSON_WIDE_FILE = Path(__file__).with_name("person_wide.onnx")
