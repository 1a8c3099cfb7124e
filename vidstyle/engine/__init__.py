"""Compiling a network ahead of time, and checking what came out."""
