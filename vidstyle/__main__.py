"""``python -m vidstyle``."""

from vidstyle.cli import main

main()
