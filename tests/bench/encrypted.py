#!/usr/bin/env python3
"""Speed of an encrypted tier against gocryptfs, EncFS, securefs, CryFS, a plain tier, and the disk itself.

    tests/bench/encrypted.py                 five rounds of everything, as root
    tests/bench/encrypted.py --rounds 1 --mib 16 --files 100 --only tierfs-gcm,gocryptfs
    tests/bench/encrypted.py reverse         a reverse view of one large file against `gocryptfs -reverse`

Everybody has an ext4 of his own on a loop device below --dir (default: memory). All are mounted at once and
take turns within each row, in another order every round, so that whatever else the machine does hits all
alike. Before every row that reads, each mount is taken down and made again: what the kernel keeps of it is
cold, what it keeps of the ciphertext is warm. Writes are to the page cache, and made durable outside of the
time that counts. Ratios are of the same round; the tables have their medians.
Needs gocryptfs, encfs, securefs, cryfs (who is missing is left out), e2fsprogs, target/release/tierfs.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time

TIERFS = pathlib.Path(os.environ.get("TIERFS", pathlib.Path(__file__).resolve().parents[2] / "target/release/tierfs"))
PASSPHRASE = "correct horse"
MIB = 1 << 20


def run(*words, **more):
    more.setdefault("stdout", subprocess.DEVNULL)
    more.setdefault("stderr", subprocess.DEVNULL)
    return subprocess.run([str(word) for word in words], check=True, **more)


def is_mounted(point):
    with open("/proc/self/mountinfo") as table:
        return any(line.split()[4] == str(point) for line in table)


def unmount(point):
    for _ in range(100):
        if subprocess.run(["umount", str(point)], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)
    run("umount", "-l", point)


@contextlib.contextmanager
def loop_ext4(home, name, mib):
    image, point = home / f"{name}.img", home / f"{name}.disk"
    with open(image, "wb") as file:
        file.truncate(mib << 20)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    point.mkdir()
    run("mount", "-o", "loop,noatime", image, point)
    try:
        yield point
    finally:
        unmount(point)
        image.unlink()


class Contestant:
    """One filesystem on a disk of its own. The way down the class: create once, mount often."""

    program = None
    line = ()

    def __init__(self, name, home, disk):
        self.name, self.home, self.disk = name, home, disk
        self.point = home / f"{name}.mnt"
        self.cipher = disk / "cipher"
        self.passfile = home / f"{name}.pass"
        self.point.mkdir()
        self.cipher.mkdir()
        self.passfile.write_text(PASSPHRASE + "\n")

    def create(self):
        pass

    def command(self):
        raise NotImplementedError

    def mount(self):
        words, more = self.command()
        run(*words, **more)
        for _ in range(500):
            if is_mounted(self.point):
                os.listdir(self.point)
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not mount")

    def unmount(self):
        if is_mounted(self.point):
            unmount(self.point)

    def again(self):
        """Takes the mount down and makes it anew."""
        self.unmount()
        # A daemon that was unmounted may still hold its files.
        time.sleep(0.05)
        self.mount()


class Native(Contestant):
    def mount(self):
        if not is_mounted(self.point):
            run("mount", "--bind", self.cipher, self.point)

    def again(self):
        # What a fresh mount of anybody else has cold is warm here: it is the scale, not a contestant.
        pass


class Tierfs(Contestant):
    program = str(TIERFS)
    flags = None

    def create(self):
        tier = {"path": str(self.cipher)}
        if self.flags is not None:
            run("gocryptfs", "-init", "-q", "-scryptn", "10", *self.flags, "-passfile", self.passfile, self.cipher)
            tier["encryption"] = {"passfile": str(self.passfile)}
        self.config = self.home / f"{self.name}.yaml"
        mount = {"passthrough": False}
        config = {"version": 1, "mountpoint": str(self.point), "tiers": [tier], "mount": mount}
        self.config.write_text(json.dumps(config))

    def command(self):
        return [TIERFS, "mount", "--config", self.config], {}


class TierfsGcm(Tierfs):
    flags = ()


class TierfsXchacha(Tierfs):
    flags = ("-xchacha",)


class Gocryptfs(Contestant):
    program = "gocryptfs"

    def create(self):
        run("gocryptfs", "-init", "-q", "-scryptn", "10", *self.line, "-passfile", self.passfile, self.cipher)

    def command(self):
        return ["gocryptfs", "-q", "-passfile", self.passfile, self.cipher, self.point], {}


class GocryptfsXchacha(Gocryptfs):
    line = ("-xchacha",)


class Encfs(Contestant):
    program = "encfs"
    line = ("--standard",)

    def create(self):
        self.mount()
        self.unmount()

    def command(self):
        return (["encfs", *self.line, "--extpass", f"cat {self.passfile}", self.cipher, self.point],
                {"stdin": subprocess.DEVNULL})


class EncfsParanoia(Encfs):
    line = ("--paranoia",)


class Securefs(Contestant):
    program = "securefs"

    def create(self):
        run("securefs", "create", "--pass", PASSPHRASE, "--pbkdf", "pkcs5-pbkdf2-hmac-sha256", "-r", "1000", self.cipher)

    def command(self):
        return ["securefs", "mount", "-b", "--pass", PASSPHRASE, self.cipher, self.point], {}


class Cryfs(Contestant):
    program = "cryfs"

    def create(self):
        self.mount()
        self.unmount()

    def command(self):
        surroundings = dict(os.environ, CRYFS_FRONTEND="noninteractive", CRYFS_NO_UPDATE_CHECK="true",
                            CRYFS_LOCAL_STATE_DIR=str(self.home / "cryfs-state"))
        return ["cryfs", self.cipher, self.point], {"env": surroundings, "input": PASSPHRASE + "\n", "text": True}


CONTESTANTS = {
    "native": Native, "tierfs-plain": Tierfs, "tierfs-gcm": TierfsGcm, "tierfs-xchacha": TierfsXchacha,
    "gocryptfs": Gocryptfs, "gocryptfs-xchacha": GocryptfsXchacha, "encfs": Encfs, "encfs-paranoia": EncfsParanoia,
    "securefs": Securefs, "cryfs": Cryfs,
}
PEERS = ["gocryptfs", "gocryptfs-xchacha", "encfs", "encfs-paranoia", "securefs", "cryfs"]


class Work:
    """The rows, each a timed pass over one mount. They build on one another, in this order."""

    def __init__(self, options):
        self.mib, self.files, self.calls = options.mib, options.files, options.calls
        self.block = os.urandom(MIB)
        self.small = os.urandom(4096)

    def seq_write(self, top):
        file = os.open(top / "big", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        began = time.perf_counter()
        for _ in range(self.mib):
            os.write(file, self.block)
        took = time.perf_counter() - began
        os.fsync(file)
        os.close(file)
        return took

    def seq_read(self, top):
        began = time.perf_counter()
        file = os.open(top / "big", os.O_RDONLY)
        buffer = bytearray(MIB)
        total = 0
        while count := os.readv(file, [buffer]):
            total += count
        os.close(file)
        took = time.perf_counter() - began
        assert total == self.mib * MIB and bytes(buffer) == self.block, "other contents"
        return took

    def places(self):
        rng = random.Random(7)
        return [rng.randrange(self.mib * 256) * 4096 for _ in range(self.calls)]

    def rnd_write(self, top):
        places = self.places()
        file = os.open(top / "big", os.O_WRONLY)
        began = time.perf_counter()
        for place in places:
            os.pwrite(file, self.small, place)
        took = time.perf_counter() - began
        os.fsync(file)
        os.close(file)
        return took

    def rnd_read(self, top):
        places = self.places()
        file = os.open(top / "big", os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        began = time.perf_counter()
        for place in places:
            os.pread(file, 4096, place)
        took = time.perf_counter() - began
        os.close(file)
        return took

    def names(self, top):
        return [str(top / "small" / f"file-{at:06}.dat") for at in range(self.files)]

    def create(self, top):
        (top / "small").mkdir()
        names = self.names(top)
        began = time.perf_counter()
        for name in names:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(file, self.small)
            os.close(file)
        return time.perf_counter() - began

    def open_read(self, top):
        names = self.names(top)
        began = time.perf_counter()
        for name in names:
            file = os.open(name, os.O_RDONLY)
            os.read(file, 4096)
            os.close(file)
        return time.perf_counter() - began

    def stat(self, top):
        names = self.names(top)
        began = time.perf_counter()
        for name in names:
            os.stat(name)
        return time.perf_counter() - began

    def readdir_stat(self, top):
        began = time.perf_counter()
        with os.scandir(top / "small") as entries:
            seen = [entry.stat(follow_symlinks=False).st_size for entry in entries]
        took = time.perf_counter() - began
        assert seen == [4096] * self.files
        return took

    def unlink(self, top):
        names = self.names(top)
        began = time.perf_counter()
        for name in names:
            os.unlink(name)
        took = time.perf_counter() - began
        (top / "small").rmdir()
        os.unlink(top / "big")
        return took

    # What to do, whether the mount is to be fresh, and what the figure means.
    def rows(self):
        size, calls, files = self.mib, self.calls, self.files
        speed = lambda took: (size / took, "MiB/s")
        each = lambda count: lambda took: (took / count * 1e6, "us")
        return [
            ("sequential write", self.seq_write, False, speed),
            ("sequential read", self.seq_read, True, speed),
            ("4K random write", self.rnd_write, True, each(calls)),
            ("4K random read", self.rnd_read, True, each(calls)),
            ("create+write 4K", self.create, True, each(files)),
            ("open+read 4K", self.open_read, True, each(files)),
            ("stat", self.stat, True, each(files)),
            ("readdir+stat", self.readdir_stat, True, each(files)),
            ("unlink", self.unlink, True, each(files)),
        ]


def wait_for_quiet(limit):
    """Until others have used less than `limit` of a CPU for a second, or half a minute is over."""
    if limit <= 0:
        return
    for _ in range(30):
        def busy():
            with open("/proc/stat") as file:
                fields = [int(word) for word in file.readline().split()[1:]]
            return sum(fields) - fields[3] - fields[4]
        before = busy()
        time.sleep(1)
        if (busy() - before) / os.sysconf("SC_CLK_TCK") < limit:
            return


def measure(contestants, work, rounds, quiet):
    took = {row: {one.name: [] for one in contestants} for row, *_ in work.rows()}
    for number in range(rounds):
        for row, act, fresh, _ in work.rows():
            order = contestants[:]
            random.Random(number).shuffle(order)
            wait_for_quiet(quiet)
            for one in order:
                if fresh:
                    one.again()
                took[row][one.name].append(act(one.point))
                run("sync", "-f", one.disk)
        print(f"round {number + 1} of {rounds} done", flush=True)
    return took


def ratio(took, row, one, other):
    """How many times as long `one` takes as `other`: the median over rounds."""
    return statistics.median(a / b for a, b in zip(took[row][one], took[row][other]))


def table(head, rows):
    widths = [max(len(line[at]) for line in [head, *rows]) for at in range(len(head))]
    for number, line in enumerate([head, *rows]):
        print("| " + " | ".join(word.ljust(width) if at == 0 else word.rjust(width)
                                for at, (word, width) in enumerate(zip(line, widths))) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|")


def report(took, contestants, work):
    names = [one.name for one in contestants]
    rows = work.rows()
    print("\nmedians\n")
    lines = []
    for row, _, _, figure in rows:
        cells = [figure(statistics.median(took[row][name])) for name in names]
        lines.append([f"{row} {cells[0][1]}"] + [f"{value:.0f}" if value >= 20 else f"{value:.1f}" for value, _ in cells])
    table(["", *names], lines)
    for own in [name for name in names if name.startswith("tierfs-") and name != "tierfs-plain"]:
        others = [name for name in names if name in PEERS + ["tierfs-plain", "native"]]
        print(f"\n{own} is so many times as fast as\n")
        lines = []
        for row, *_ in rows:
            ratios = {name: ratio(took, row, name, own) for name in others}
            peers = [ratios[name] for name in others if name in PEERS]
            worst = f"{min(peers):.2f}" if peers else "-"
            lines.append([row] + [f"{ratios[name]:.2f}" for name in others] + [worst])
        table(["", *others, "the best peer"], lines)


def contest(options, home):
    chosen = options.only.split(",") if options.only else list(CONTESTANTS)
    with contextlib.ExitStack() as stack:
        contestants = []
        for name in chosen:
            kind = CONTESTANTS[name]
            needed = [kind.program] if kind.program else []
            missing = [program for program in needed if not shutil.which(program)]
            if missing:
                print(f"{name} is left out: {missing[0]} is missing")
                continue
            one = kind(name, home, stack.enter_context(loop_ext4(home, name, options.mib * 3 + 512)))
            stack.callback(one.unmount)
            one.create()
            one.mount()
            contestants.append(one)
        work = Work(options)
        report(measure(contestants, work, options.rounds, options.quiet), contestants, work)


def reverse(options, home):
    """One large file read through a reverse view of either program, with the same configuration."""
    with loop_ext4(home, "source", options.mib * 2 + 256) as disk:
        source = disk / "source"
        source.mkdir()
        with open(source / "big", "wb") as file:
            for _ in range(options.mib):
                file.write(os.urandom(MIB))
        passfile = home / "pass"
        passfile.write_text(PASSPHRASE + "\n")
        run("gocryptfs", "-init", "-reverse", "-q", "-scryptn", "10", "-passfile", passfile, source)
        ways = {
            "gocryptfs -reverse": lambda point: ["gocryptfs", "-reverse", "-q", "-passfile", passfile, source, point],
            "tierfs encrypt-view": lambda point: [TIERFS, "encrypt-view", "--passfile", passfile, source, point],
        }
        speeds = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, words in ways.items():
                point = pathlib.Path(tempfile.mkdtemp(dir=home))
                run(*words(point))
                while not is_mounted(point):
                    time.sleep(0.02)
                large = max((path for path in point.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
                began = time.perf_counter()
                with open(large, "rb", buffering=0) as file:
                    while file.read(MIB):
                        pass
                speeds[name].append(options.mib / (time.perf_counter() - began))
                unmount(point)
        for name, all_of in speeds.items():
            print(f"{name}: {statistics.median(all_of):.0f} MiB/s")
        own, other = speeds["tierfs encrypt-view"], speeds["gocryptfs -reverse"]
        print(f"ratio: {statistics.median(a / b for a, b in zip(own, other)):.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["contest", "reverse"], default="contest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=128, help="size of the large file")
    parser.add_argument("--files", type=int, default=2000, help="small files of 4 KiB")
    parser.add_argument("--calls", type=int, default=4000, help="random reads and writes")
    parser.add_argument("--only", help="contestants, with commas: " + ", ".join(CONTESTANTS))
    parser.add_argument("--quiet", type=float, default=0.6, help="CPUs that others may use when a row begins; 0: any")
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path("/dev/shm"))
    options = parser.parse_args()
    home = pathlib.Path(tempfile.mkdtemp(prefix="tierfs-encrypted-", dir=options.dir))
    try:
        (contest if options.what == "contest" else reverse)(options, home)
    finally:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
