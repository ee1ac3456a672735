"""How the process holds on to host memory."""

from __future__ import annotations

import ctypes
import functools

# Names of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


@functools.cache
def keep_freed_memory() -> bool:
    """Lets what a step on CPU frees serve the next one, instead of going back to the system.

    XLA takes the memory of a step anew each time. Blocks of more than 32 MiB are otherwise mapped
    and cleared page by page at every step, which takes as long as the step itself for small models.
    Has its full effect only before JAX starts its threads.

    Returns:
      Whether it was done: only where the C library is glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_ARENA_MAX, 1))
    return all([mallopt(name, value) for name, value in wanted])
