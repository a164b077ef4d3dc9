#!/usr/bin/env python3
"""A write that is under way while others look at the file, for tests/mount/pages.rs.

    pages.py FILE TIER LOOK    FILE on the mount is on the filesystem of TIER, which is stopped meanwhile;
                               LOOK is `stat` or `open`
"""

import mmap
import os
import subprocess
import sys
import threading
import time


def main(path, tier, look):
    writer = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(writer, b"a" * 4096, 0)
    if look == "open":
        # The next read is to set the access time.
        os.utime(writer, ns=(0, time.time_ns()))
    reader = os.open(path, os.O_RDONLY)
    assert os.pread(reader, 1, 0) == b"a"
    memory = mmap.mmap(reader, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
    assert memory[0] == ord("a")
    os.fstat(reader)
    # The kernel knows an older time than this sets.
    os.pwrite(writer, b"b", 0)
    changed = os.stat(os.path.join(tier, os.path.basename(path))).st_mtime_ns
    subprocess.run(["fsfreeze", "-f", tier], check=True)
    try:
        under_way = threading.Thread(target=os.pwrite, args=(writer, b"c", 0))
        under_way.start()
        while memory[0] != ord("c"):
            time.sleep(0.001)
        if look == "stat":
            os.fstat(reader)
        else:
            os.close(os.open(path, os.O_RDONLY))
        seen = os.pread(reader, 1, 0)
        assert seen in (b"b", b"c"), seen
    finally:
        subprocess.run(["fsfreeze", "-u", tier], check=True)
    under_way.join()
    # A time that the kernel has seen already: what it has read meanwhile looks right to it.
    os.utime(writer, ns=(time.time_ns(), changed))
    seen = os.pread(reader, 1, 0)
    assert seen == b"c", seen


if __name__ == "__main__":
    main(*sys.argv[1:])
