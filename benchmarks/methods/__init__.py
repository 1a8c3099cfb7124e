"""Eight methods of style transfer under one contract, `methods.base.Method`: the table of the MetaStyle paper, rebuilt.

`python -m benchmarks.methods` paints and measures; `python -m benchmarks.methods --help` names the other commands.
"""
