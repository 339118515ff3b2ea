"""`python -m tests.frameio.without_io_uring ERRNO WANTED`: what `choose` makes of a seccomp filter.

The filter answers io_uring_setup with ERRNO, as container run-times do; what was chosen and why is printed.
"""

from __future__ import annotations

import ctypes
import struct
import sys

from vethd.datapath.softnet import SoftnetData
from vethd.frameio.choice import FrameIOUnavailable, choose

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_IO_URING_SETUP = 425  # on every architecture
_LOAD_NR, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def forbid(error: int) -> None:
    """Let io_uring_setup fail with this errno from now on."""
    instructions = [
        (_LOAD_NR, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ERRNO | error),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid(int(sys.argv[1]))
    try:
        frameio, why = choose(sys.argv[2], SoftnetData())  # type: ignore[arg-type]
    except FrameIOUnavailable as error:
        sys.exit(str(error))
    print(f"{frameio.name}: {why}")
    frameio.close()
