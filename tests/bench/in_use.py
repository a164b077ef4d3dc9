#!/usr/bin/env python3
"""A mount in use while everything older than a year leaves it. As root.

    tests/bench/in_use.py --files 200000

Plants files of several ages, half of them small, with ACLs, extended attributes, hard links, holes, capabilities and
odd names; mounts; writes down what programs see of every file (find -printf, getfattr, getfacl, a hash of the
contents); then runs `tierfs migrate --older-than 1y` while other programs read the whole tree, check it, and write,
rename and sync files of their own. Afterwards everything must be seen as before, everything older than a year must be
on the secondary and nothing else, and every byte that a program was told is durable must be there. Then all comes back
by `recall --run`, and everything is compared again.
"""

import argparse
import hashlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from moving import TIERFS, drop_caches, mounted, run, two_tiers

DAY = 86400
AGES = [10, 100, 300, 400, 800, 2000]


def plant(root, files, rng):
    """Returns the paths (from the root) of the regular files that are old enough to go."""
    old, now = set(), time.time()
    for at in range(files):
        folder = root / f"team{at // 10000}" / f"case{at // 100:05}"
        if at % 100 == 0:
            folder.mkdir(parents=True, exist_ok=True)
        odd = ["", " with spaces", "-\xfc\xf1\u00ef", "'quoted\""][at % 7 % 4]
        path = folder / f"doc{at % 100:03}{odd}.dat"
        size = rng.choice([0, 1, 300, 4096, 4097]) if at % 2 else rng.randrange(8_000, 40_000)
        path.write_bytes(rng.randbytes(size))
        if at % 501 == 0:
            with open(path, "r+b") as file:
                file.truncate(1 << 20)
                file.seek(700_001)
                file.write(b"after a hole")
        path.chmod(rng.choice([0o644, 0o600, 0o4755, 0o2640, 0o444]))
        os.chown(path, rng.randrange(1000, 1010), rng.randrange(1000, 1010))
        if at % 11 == 0:
            os.setxattr(path, "user.note", rng.randbytes(20))
        if at % 97 == 0:
            subprocess.run(["setfacl", "-m", "u:1234:r,g:77:rw", path], check=True)
        if at % 997 == 0:
            os.setxattr(path, "security.capability", bytes.fromhex("0100000200000400000000000000000000000000"))
        age = AGES[at % len(AGES)] * DAY
        moment = int((now - age) * 1e9) + at
        os.utime(path, ns=(moment, moment))
        relative = path.relative_to(root)
        if age > 366 * DAY:
            old.add(str(relative))
        if at % 401 == 0:
            link = path.with_name(path.name + ".link")
            os.link(path, link)
            if age > 366 * DAY:
                old.add(str(link.relative_to(root)))
    for folder in sorted(root.glob("team*/case*")):
        os.utime(folder, ns=(10**18, 10**18 + 123_456_789))
    return old


def seen(point, still):
    """What programs see below `still`, as one text a tool. Reading comes first: it may set access times."""
    hashes = hashlib.sha256()
    for top, folders, names in os.walk(point / still):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(top, name)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
            with os.fdopen(descriptor, "rb") as file:
                hashes.update(f"{path}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode("utf8", "surrogateescape"))
    texts = {"contents": hashes.hexdigest().encode()}
    file = "%P %y %i %s %T@ %A@ %C@ %U %G %m %n\\n"
    folder = "%P %y %i %T@ %U %G %m\\n"
    commands = {
        "find": ["find", ".", "-type", "d", "-printf", folder, "-o", "-printf", file],
        "getfattr": ["getfattr", "-R", "-h", "-d", "-m-", "--absolute-names", "."],
        "getfacl": ["getfacl", "-R", "-P", "-n", "-p", "."],
    }
    for tool, words in commands.items():
        output = subprocess.run(words, cwd=point / still, check=True, stdout=subprocess.PIPE).stdout
        texts[tool] = b"\n".join(sorted(output.split(b"\n\n" if tool != "find" else b"\n")))
    return texts


def same(before, now, when):
    for tool, text in before.items():
        if text != now[tool]:
            old, new = set(text.split(b"\n")), set(now[tool].split(b"\n"))
            print(f"{when}: {tool} differs: {sorted(old - new)[:5]} became {sorted(new - old)[:5]}")
            sys.exit(1)
    print(f"{when}: contents, {', '.join(tool for tool in before if tool != 'contents')} are as before")


class Busy(threading.Thread):
    """A program in the mount until it is told to stop; what went wrong is in `wrong`."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.stop, self.wrong, self.count = act, threading.Event(), [], 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.act(self)
        except Exception as error:
            self.wrong.append(repr(error))

    def end(self):
        self.stop.set()
        self.join()
        assert not self.wrong, self.wrong


def reader(point, still, contents):
    rng, names = random.Random(3), list(contents)

    def act(busy):
        name = rng.choice(names)
        descriptor = os.open(point / still / name, os.O_RDONLY | os.O_NOATIME)
        with os.fdopen(descriptor, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != contents[name]:
                busy.wrong.append(f"{name} has other contents")
        os.stat(point / still / rng.choice(names))
        busy.count += 2

    return Busy(act)


def writer(point, folder, known):
    """Writes, syncs, renames over and removes files of its own, and knows what was acknowledged."""
    rng, home = random.Random(folder), point / folder
    home.mkdir()

    def act(busy):
        name, data = f"w{rng.randrange(300)}", rng.randbytes(rng.randrange(20_000))
        path = home / name
        if rng.random() < 0.1 and name in known:
            path.unlink()
            del known[name]
        elif rng.random() < 0.5:
            draft = home / f"{name}.draft"
            with open(draft, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(draft, path)
            known[name] = data
        else:
            with open(path, "wb") as file:
                file.write(data)
            known[name] = data
        if rng.random() < 0.3 and name in known:
            # Old enough to move at once.
            os.utime(path, (10**9, 10**9))
        busy.count += 1

    return Busy(act)


def on_tier(tier):
    found = set()
    for top, folders, names in os.walk(tier):
        if ".tierfs" in folders:
            folders.remove(".tierfs")
        found.update(os.path.relpath(os.path.join(top, name), tier) for name in names)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    options = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="tierfs-in-use-", dir=options.dir))
    rng = random.Random(7)
    with two_tiers(home, max(4, options.files * 60_000 >> 30)) as (fast, slow):
        (fast / "still").mkdir()
        old = plant(fast / "still", options.files, rng)
        run(TIERFS, "init", f"{fast}:{slow}")
        with mounted(fast, slow, "-oallow_other,suid") as point:
            work(point, fast, slow, {f"still/{name}" for name in old}, rng)
    home.rmdir()
    print("everything holds")


def work(point, fast, slow, old, rng):
    names = rng.sample(sorted(os.path.relpath(os.path.join(top, name), point / "still")
                              for top, _, names in os.walk(point / "still") for name in names), 5000)
    contents = {name: hashlib.sha256((fast / "still" / name).read_bytes()).hexdigest() for name in names}
    # Looking at them beside the mount made them young.
    for name in names:
        found = os.stat(fast / "still" / name)
        os.utime(fast / "still" / name, ns=(found.st_mtime_ns, found.st_mtime_ns))
    before = seen(point, "still")
    known = [{}, {}]
    programs = [reader(point, "still", contents), writer(point, "w0", known[0]), writer(point, "w1", known[1])]
    for program in programs:
        program.start()
    began = time.monotonic()
    run(TIERFS, "migrate", point, "--older-than", "1y", "--age-by", "mtime")
    took = time.monotonic() - began
    drop_caches()
    after = seen(point, "still")
    for program in programs:
        program.end()
    print(f"moved in {took:.0f} s while programs made {sum(program.count for program in programs)} requests")
    same(before, after, "after the migration, in use")
    for at, wrote in enumerate(known):
        found = {name: (point / f"w{at}" / name).read_bytes() for name in os.listdir(point / f"w{at}")}
        assert {name: data for name, data in found.items() if not name.endswith(".draft")} == wrote, f"writer {at}"
    print(f"writers: {sum(len(wrote) for wrote in known)} files, every byte there")
    there = {name for name in on_tier(slow) if name.startswith("still/")}
    here = {name for name in on_tier(fast) if name.startswith("still/")}
    in_use = sorted(old - there)
    print(f"{len(there)} files on the secondary, {len(here)} on the primary, {len(in_use)} old ones were in use")
    assert there <= old and not there & here
    run(TIERFS, "migrate", point, "--older-than", "1y", "--age-by", "mtime", "still")
    assert {name for name in on_tier(slow) if name.startswith("still/")} == old, "the next run moves those that were in use"
    run_name = subprocess.run([TIERFS, "history", point], check=True, stdout=subprocess.PIPE, text=True).stdout
    print(run_name.strip().splitlines()[-1] if run_name.strip() else "no history")
    run(TIERFS, "recall", "-r", point / "still")
    after = seen(point, "still")
    same(before, after, "after the recall")
    assert not any(name.startswith("still/") for name in on_tier(slow))


if __name__ == "__main__":
    main()
