"""Painting in the visitor's browser by WebGPU: the page that needs no server, and what `serve` shares with it.

``page/`` holds what both pages show and the painter in JavaScript and WGSL, ``site/`` what the page without a server
has besides.
"""
