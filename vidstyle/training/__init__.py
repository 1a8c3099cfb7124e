"""Everything that learns. Importing it needs PyTorch; stylizing does not, and never imports it."""

from vidstyle.errors import MissingDependency

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingDependency(
        f"adapting and training need PyTorch, which cannot be imported ({error}); pip install 'vidstyle[train]'"
    ) from error
