"""T5 in Flax linen with T5X's parameter names, its sizes, and decoding."""

from spjax.models.sizes import SIZES, T5Config, get_size
from spjax.models.t5 import T5

__all__ = ["SIZES", "T5", "T5Config", "get_size"]
