"""Keep the memory that freed tensors leave, on CPUs."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors; by default glibc hands it back to the system.

    A training step frees what the next one allocates again, and the system fills each page with zeros before it gives
    it out: 20 to 40 % of a step where maps are large and kernels small.

    Returns:
        Whether it can: other C libraries, and other systems, are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(parameter, _NEVER) for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
