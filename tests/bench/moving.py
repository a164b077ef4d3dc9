#!/usr/bin/env python3
"""Speed of moving files, in interleaved rounds against rsync and find. As root.

    tests/bench/moving.py small            100,000 files of 4 KiB from one ext4 to another
    tests/bench/moving.py large            20 files of 1 GiB
    tests/bench/moving.py scan             a million files, looked at for their age
    tests/bench/moving.py latency          requests through a mount while files leave it

Both tiers are ext4 on loop devices below --dir (a disk, or a tmpfs), fresh for every program and round,
with cold caches. What counts is the ratio of a round; the last table has the medians of these.
Needs rsync 3.2.4 or newer, e2fsprogs, and target/release/tierfs.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

TIERFS = pathlib.Path(os.environ.get("TIERFS", pathlib.Path(__file__).resolve().parents[2] / "target/release/tierfs"))
YEAR = 366 * 86400


def run(*words, **more):
    return subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, **more)


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


@contextlib.contextmanager
def loop_ext4(home, name, gib):
    image, point = home / f"{name}.img", home / name
    with open(image, "wb") as file:
        file.truncate(gib << 30)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    point.mkdir()
    run("mount", "-o", "loop", image, point)
    try:
        (point / "tier").mkdir()
        yield point / "tier"
    finally:
        # A daemon that was unmounted lets go of its tiers a moment later.
        for _ in range(100):
            if subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        point.rmdir()
        image.unlink()


@contextlib.contextmanager
def two_tiers(home, gib):
    with loop_ext4(home, "fast", gib) as fast, loop_ext4(home, "slow", gib) as slow:
        yield fast, slow


@contextlib.contextmanager
def mounted(fast, slow, *options):
    with tempfile.TemporaryDirectory() as point:
        run(TIERFS, "mount", *options, f"{fast}:{slow}", point)
        try:
            yield pathlib.Path(point)
        finally:
            run(TIERFS, "umount", point)


def plant(root, files, size, per_dir=100, age=2 * YEAR):
    """Incompressible files that are `age` seconds old, in directories of `per_dir`."""
    then = time.time() - age
    block = os.urandom(min(size, 1 << 20) + 4096)
    for at in range(files):
        folder = root / f"d{at // per_dir:05}"
        if at % per_dir == 0:
            folder.mkdir()
        path = folder / f"file{at % per_dir:03}.dat"
        with open(path, "wb") as file:
            left = size
            while left > 0:
                start = (at + left) % 4096
                left -= file.write(block[start:start + min(left, 1 << 20)])
        os.utime(path, (then, then))


def count(root):
    return sum(1 for top, _, names in os.walk(root) for _ in names if ".tierfs" not in top)


def rsync(*options):
    return ["rsync", "-aHAX", *options]


def by_command(fast, slow):
    run(TIERFS, "migrate", f"{fast}:{slow}", "--older-than", "1y")


def by_command_size(fast, slow):
    run(TIERFS, "migrate", f"{fast}:{slow}", "--older-than", "1y", "--verify", "size")


def by_rsync_fsync(fast, slow):
    run(*rsync("--fsync", "--remove-source-files"), f"{fast}/", f"{slow}/")


def by_rsync_twice(fast, slow):
    run(*rsync(), f"{fast}/", f"{slow}/")
    run("sync", "-f", slow)
    run(*rsync("--remove-source-files"), f"{fast}/", f"{slow}/")


def by_rsync_checked(fast, slow):
    run(*rsync(), f"{fast}/", f"{slow}/")
    run("sync", "-f", slow)
    drop_caches()
    run(*rsync("--remove-source-files", "--checksum"), f"{fast}/", f"{slow}/")


def by_copy(fast, slow):
    for path in sorted(fast.rglob("*.dat")):
        target = slow / path.relative_to(fast)
        target.parent.mkdir(exist_ok=True)
        run("dd", f"if={path}", f"of={target}", "bs=1M", "conv=fsync", "status=none")
        path.unlink()


MOVERS = {
    "tierfs": by_command,
    "tierfs in a mount": None,
    "tierfs --verify size": by_command_size,
    "rsync --fsync": by_rsync_fsync,
    "rsync+sync+rsync": by_rsync_twice,
    "rsync+sync+rsync -c": by_rsync_checked,
    "dd conv=fsync": by_copy,
}


def move_once(home, name, files, size):
    gib = max(2, 2 * files * max(size, 8192) >> 30)
    with two_tiers(home, gib) as (fast, slow):
        plant(fast, files, size)
        run(TIERFS, "init", f"{fast}:{slow}")
        drop_caches()
        if MOVERS[name]:
            began = time.monotonic()
            MOVERS[name](fast, slow)
            took = time.monotonic() - began
        else:
            with mounted(fast, slow) as point:
                began = time.monotonic()
                run(TIERFS, "migrate", point, "--older-than", "1y")
                took = time.monotonic() - began
        assert (count(fast), count(slow)) == (0, files), (name, count(fast), count(slow))
    return took


def scan_once(home, name, cold, state):
    fast, slow = state
    words = {
        "tierfs migrate -n": [TIERFS, "migrate", f"{fast}:{slow}", "--older-than", "1y", "--dry-run", "--quiet"],
        "tierfs report": [TIERFS, "report", f"{fast}:{slow}"],
        "tierfs report --quick": [TIERFS, "report", "--quick", f"{fast}:{slow}"],
        "find -newermt": ["find", fast, "-newermt", "1 year ago", "-type", "f"],
    }[name]
    if cold:
        drop_caches()
    began = time.monotonic()
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def latency_once(home, files):
    """The 50th and 99th percentile and the longest of stat, and of open+read+close, idle and while files move."""
    with two_tiers(home, 4) as (fast, slow):
        plant(fast, files, 4096)
        (fast / "young").mkdir()
        plant(fast / "young", 2000, 4096, age=60)
        run(TIERFS, "init", f"{fast}:{slow}")
        with mounted(fast, slow) as point:
            young = sorted((point / "young").rglob("*.dat"))
            ended = threading.Event()

            def requests(least):
                stats, reads, began = [], [], time.monotonic()
                while not ended.is_set() or time.monotonic() - began < least:
                    for path in young:
                        before = time.perf_counter()
                        os.stat(path)
                        between = time.perf_counter()
                        descriptor = os.open(path, os.O_RDONLY)
                        os.read(descriptor, 4096)
                        os.close(descriptor)
                        reads.append(time.perf_counter() - between)
                        stats.append(between - before)
                return stats, reads

            ended.set()
            requests(1)
            idle = requests(5)
            ended.clear()
            moving = subprocess.Popen([TIERFS, "migrate", point, "--older-than", "1y", "--quiet"], stdout=subprocess.DEVNULL)
            waiter = threading.Thread(target=lambda: (moving.wait(), ended.set()))
            waiter.start()
            busy = requests(0)
            waiter.join()
            assert moving.returncode == 0
    return idle, busy


def table(rounds, first):
    names = list(rounds[0])
    print(f"{'':24} {'seconds':>24} {'to ' + first:>16}")
    for name in names:
        times = [each[name] for each in rounds]
        ratio = statistics.median(each[name] / each[first] for each in rounds)
        print(f"{name:24} {' '.join(f'{took:.2f}' for took in times):>24} {ratio:16.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["small", "large", "scan", "latency"])
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--files", type=int)
    parser.add_argument("--only", help="programs, separated by commas")
    parser.add_argument("--cold", action="store_true", help="scan: drop the caches before each program")
    options = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="tierfs-moving-", dir=options.dir))
    only = options.only.split(",") if options.only else None
    try:
        measure(options, home, only)
    finally:
        shutil.rmtree(home)


def measure(options, home, only):
    if options.what == "latency":
        for _ in range(options.rounds):
            idle, busy = latency_once(home, options.files or 100_000)
            for name, before, after in zip(["stat", "open+read+close"], idle, busy):
                show = [percentile(before, p) * 1e6 for p in (0.5, 0.99, 1)] + [percentile(after, p) * 1e6 for p in (0.5, 0.99, 1)]
                print(f"{name:16} idle p50 p99 max {show[0]:.0f} {show[1]:.0f} {show[2]:.0f} us, "
                      f"moving {show[3]:.0f} {show[4]:.0f} {show[5]:.0f} us; p99 ratio {show[4] / show[1]:.2f} "
                      f"({len(before)}, {len(after)} requests)")
        return
    if options.what == "scan":
        names = only or ["tierfs report --quick", "tierfs report", "tierfs migrate -n", "find -newermt"]
        # A million inodes.
        with two_tiers(home, 20) as state:
            plant(state[0], options.files or 1_000_000, 0)
            run(TIERFS, "init", f"{state[0]}:{state[1]}")
            rounds = [{name: scan_once(home, name, options.cold, state) for name in names} for _ in range(options.rounds)]
        table(rounds, names[0])
        return
    small = options.what == "small"
    files, size = options.files or (100_000 if small else 20), 4096 if small else 1 << 30
    leave_out = {"dd conv=fsync"} if small else {"rsync+sync+rsync -c"}
    names = only or [name for name in MOVERS if name not in leave_out]
    rounds = []
    for _ in range(options.rounds):
        rounds.append({name: move_once(home, name, files, size) for name in names})
        print({name: round(took, 2) for name, took in rounds[-1].items()}, flush=True)
    table(rounds, names[0])
    took = statistics.median(each[names[0]] for each in rounds)
    print(f"{names[0]}: {files / took:.0f} files/s, {files * size / took / (1 << 20):.0f} MiB/s")


if __name__ == "__main__":
    main()
