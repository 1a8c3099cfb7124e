"""``vidstyle serve``: the browser as camera, stage and studio."""
