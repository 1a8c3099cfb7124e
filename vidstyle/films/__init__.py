"""Long videos in parts: planned, painted by one process or many, resumed, and assembled into one file."""
