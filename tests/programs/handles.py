#!/usr/bin/env python3
"""File handles, for tests/programs/handles.rs: name_to_handle_at(2) and open_by_handle_at(2), asked line by line.

    take PATH          says the handle in hexadecimal
    open HANDLE        says `NUMBER SIZE HASH` of what it leads to, or the name of the error
    write HANDLE TEXT  appends, and says `ok` or the name of the error
"""

import ctypes
import errno
import hashlib
import os
import sys

AT_FDCWD = -100
SIZE_MAX = 128
libc = ctypes.CDLL(None, use_errno=True)


class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("bytes", ctypes.c_ubyte * SIZE_MAX)]


def failed():
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def take(path):
    handle, mount = Handle(size=SIZE_MAX), ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) < 0:
        raise failed()
    return f"{handle.kind}:{bytes(handle.bytes[: handle.size]).hex()}"


def by_handle(mount, text, flags):
    kind, digits = text.split(":")
    data = bytes.fromhex(digits)
    handle = Handle(size=len(data), kind=int(kind))
    ctypes.memmove(handle.bytes, data, len(data))
    fd = libc.open_by_handle_at(mount, ctypes.byref(handle), flags)
    if fd < 0:
        raise failed()
    return os.fdopen(fd, "ab" if flags & os.O_WRONLY else "rb")


def answer(mount, what, *more):
    if what == "take":
        return take(more[0])
    if what == "open":
        with by_handle(mount, more[0], os.O_RDONLY) as file:
            seen = os.fstat(file.fileno())
            return f"{seen.st_ino} {seen.st_size} {hashlib.md5(file.read()).hexdigest()}"
    with by_handle(mount, more[0], os.O_WRONLY | os.O_APPEND) as file:
        file.write(more[1].encode())
    return "ok"


def main():
    # Of the mount, not of one file in it: nothing below is kept in the kernel's memory by it.
    mount = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
    for line in sys.stdin:
        try:
            print(answer(mount, *line.split()), flush=True)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)


main()
