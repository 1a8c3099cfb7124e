"""The live picture: a source painted as it comes, in a window, recorded and sent on."""
