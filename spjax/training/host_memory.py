"""Host memory of a process on CPU: freed blocks and compiled programs."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc

# Names of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8

_COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax.monitoring
_LONG = 0.5  # seconds of a compilation that leaves much memory free

# A compiled program takes 10 to 20 memory maps and about half a MiB, and a run has 50 to 200 of
# them. So many maps are those of some five runs that share no programs; Linux allows 65,530.
MOST_MAPS = 6000


@functools.cache
def keep_freed_memory() -> bool:
    """Keeps the memory that a step on CPU frees for the next one.

    XLA takes the memory of a step anew each time. Blocks of more than 32 MiB are otherwise mapped
    and cleared page by page at every step, which takes as long as the step itself for small models.
    Call it before any thread is started: a thread that is already running has an arena of its own,
    which gives memory back to the system and which threads of JAX may come to share. What a long
    compilation frees goes back to the system, since it lies in pieces that no step fits into.

    Returns:
      Whether it was done: only where the C library is glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))  # -1: never
    done = [mallopt(name, value) for name, value in wanted]  # all of them, also after a failure
    import jax  # here, because the settings have to come before its threads

    jax.monitoring.register_event_duration_secs_listener(_trim_after_compilation)
    return all(done)


def _trim_after_compilation(event: str, duration_secs: float, **_: object) -> None:
    if event == _COMPILED and duration_secs > _LONG:
        _trim()


def _trim() -> None:
    """Gives free memory back to the system."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def memory_maps() -> int:
    """Returns the number of memory maps of this process, 0 where the system does not say."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            return sum(1 for _ in maps)
    except OSError:
        return 0


def release_programs(most_maps: int = MOST_MAPS) -> bool:
    """Drops all compiled programs once they take too many memory maps.

    JAX keeps what it has compiled for as long as the process lives, so that one which trains many
    different runs would reach the kernel's limit of maps and fill the memory. Programs that are
    needed again come from JAX's cache on disk.

    Args:
      most_maps: memory maps that this process may have before its programs go.

    Returns:
      Whether they were dropped.
    """
    if memory_maps() <= most_maps:
        return False
    import jax  # as above

    jax.clear_caches()
    gc.collect()
    _trim()  # what the programs took lies between what stays
    return True
