"""The live picture: a source painted as it comes, in a window, recorded and sent on."""

import vidstyle.video  # noqa: F401  before OpenCV is loaded: see `share_libxcb`
