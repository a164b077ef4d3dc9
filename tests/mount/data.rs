//! Contents: positions, holes, appends, direct and mapped access, large files.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom as Seeking};
use rustix::io::Errno;

use crate::common::fs::{errno, exists, get, open, put, stat};
use crate::common::loopfs::{LoopFs, run};
use crate::common::mount::{Setup, TestMount};
use crate::common::need;
use crate::common::setting::only_plain;

/// Runs `check` with passthrough and without, on a file of either tier, seeded with `content`.
fn on_each_path(content: &[u8], check: impl Fn(&TestMount, &Path, &str)) {
    for option in ["passthrough", "nopassthrough"] {
        let setup = Setup::new().option(option).seed(|tiers| {
            put(tiers[0].join("fast"), content);
            put(tiers[1].join("slow"), content);
        });
        let Some(mount) = setup.mount() else { return };
        for name in ["fast", "slow"] {
            check(&mount, &mount.path(name), &format!("{option}, {name}"));
        }
        mount.unmount();
    }
}

/// Writes at any position; what was written is read back by the same and by other descriptors.
#[test]
fn writes_are_read_back() {
    on_each_path(b"0123456789", |mount, path, case| {
        let writer = std::fs::File::options().read(true).write(true).open(path).expect("open");
        let reader = std::fs::File::open(path).expect("open");
        writer.write_all_at(b"AB", 3).expect("write");
        let mut seen = [0; 10];
        reader.read_exact_at(&mut seen, 0).expect("read");
        assert_eq!(&seen, b"012AB56789", "{case}");
        writer.write_all_at(b"end", 100_000).expect("write past the end");
        assert_eq!(reader.metadata().expect("fstat").len(), 100_003, "{case}");
        let mut hole = [1; 50];
        reader.read_exact_at(&mut hole, 5000).expect("read the hole");
        assert_eq!(hole, [0; 50], "{case}");
        writer.set_len(5).expect("truncate");
        assert_eq!(reader.read_at(&mut seen, 0).expect("read"), 5, "{case}");
        assert_eq!(get(path), "012AB", "{case}");
        let name = path.file_name().expect("name");
        let tier = usize::from(name == "slow");
        assert_eq!(get(mount.tier(tier, name)), "012AB", "{case}");
        assert!(!exists(mount.tier(1 - tier, name)), "{case}: in place");
    });
}

/// O_APPEND from several writers at once loses and overwrites nothing.
#[test]
fn appends_from_several_writers_are_whole() {
    on_each_path(b"", |_, path, case| {
        const LINES: usize = 300;
        std::thread::scope(|scope| {
            for writer in 0..4 {
                scope.spawn(move || {
                    let mut file = std::fs::File::options().append(true).open(path).expect("open");
                    for line in 0..LINES {
                        let text = format!("writer {writer} line {line:04}\n");
                        file.write_all(text.as_bytes()).expect("append");
                    }
                });
            }
        });
        let text = get(path);
        assert_eq!(text.lines().count(), 4 * LINES, "{case}");
        let unique: std::collections::BTreeSet<&str> = text.lines().collect();
        assert_eq!(unique.len(), 4 * LINES, "{case}");
        assert!(unique.iter().all(|line| line.len() == "writer 0 line 0000".len()), "{case}");
    });
}

/// O_APPEND ignores positions, as on every local filesystem.
#[test]
fn an_appending_descriptor_writes_at_the_end() {
    on_each_path(b"0123456789", |_, path, case| {
        let mut file = std::fs::File::options().append(true).read(true).open(path).expect("open");
        file.seek(SeekFrom::Start(2)).expect("seek");
        file.write_all(b"X").expect("write");
        assert_eq!(get(path), "0123456789X", "{case}");
        let other = std::fs::File::options().write(true).open(path).expect("open");
        other.write_all_at(b"YZ", 11).expect("write");
        file.write_all(b"!").expect("write");
        assert_eq!(get(path), "0123456789XYZ!", "{case}");
    });
}

/// O_TRUNC empties the visible copy where it is and nothing else.
#[test]
fn o_trunc_empties_the_visible_copy() {
    on_each_path(b"old content", |_, path, case| {
        let mut reader = std::fs::File::open(path).expect("open");
        let file = open(path, OFlags::RDWR | OFlags::TRUNC, 0).expect("open");
        assert_eq!(file.metadata().expect("fstat").len(), 0, "{case}");
        assert_eq!(stat(path).len(), 0, "{case}");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "", "{case}");
        put(path, "new");
        assert_eq!(get(path), "new", "{case}");
    });
}

/// fallocate in all its modes, as far as the filesystem below offers them.
#[test]
fn fallocate_reaches_the_backing_file() {
    on_each_path(&[7; 65536], |_, path, case| {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("open");
        let allocate = |mode, at, length| rustix::fs::fallocate(&file, mode, at, length);
        allocate(FallocateFlags::empty(), 0, 200_000).expect("extend");
        assert_eq!(stat(path).len(), 200_000, "{case}");
        allocate(FallocateFlags::KEEP_SIZE, 0, 400_000).expect("keep size");
        assert_eq!(stat(path).len(), 200_000, "{case}");
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        allocate(punch, 4096, 8192).expect("punch");
        let mut bytes = [1; 8192];
        file.read_exact_at(&mut bytes, 4096).expect("read");
        assert!(bytes.iter().all(|byte| *byte == 0), "{case}");
        file.read_exact_at(&mut bytes, 12288).expect("read");
        assert!(bytes.iter().all(|byte| *byte == 7), "{case}");
        assert_eq!(allocate(FallocateFlags::empty(), 0, 0), Err(Errno::INVAL), "{case}");
    });
}

/// SEEK_HOLE and SEEK_DATA find the holes of the backing file.
#[test]
fn holes_are_found() {
    for kind in ["ext4", "tmpfs"] {
        let Some(below) = LoopFs::new(kind, 64) else { return };
        let roots = [below.path().join("fast"), below.path().join("slow")];
        let setup = Setup::new().roots(&roots).seed(|tiers| {
            let file = std::fs::File::create(tiers[1].join("sparse")).expect("create");
            file.write_all_at(&[1; 4096], 0).expect("write");
            file.write_all_at(&[2; 4096], 1 << 20).expect("write");
            file.set_len(4 << 20).expect("truncate");
            file.sync_all().expect("fsync");
        });
        let Some(mount) = setup.mount() else { return };
        let file = std::fs::File::open(mount.path("sparse")).expect("open");
        let seek = |to| rustix::fs::seek(&file, to);
        assert_eq!(seek(Seeking::Hole(0)), Ok(4096), "{kind}");
        assert_eq!(seek(Seeking::Data(4096)), Ok(1 << 20), "{kind}");
        assert_eq!(seek(Seeking::Hole(1 << 20)), Ok((1 << 20) + 4096), "{kind}");
        assert_eq!(seek(Seeking::Data(2 << 20)), Err(Errno::NXIO), "{kind}");
        assert_eq!(seek(Seeking::End(0)), Ok(4 << 20), "{kind}");
        let blocks = stat(mount.path("sparse")).blocks();
        assert_eq!(blocks, stat(mount.tier(1, "sparse")).blocks(), "{kind}: sparse stays sparse");
    }
}

/// copy_file_range within a tier and across tiers.
#[test]
fn copy_file_range_copies() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("slow"), vec![5; 300_000]));
    let Some(mount) = setup.mount() else { return };
    for target in ["fast", "again"] {
        let source = std::fs::File::open(mount.path("slow")).expect("open");
        let copy = std::fs::File::create(mount.path(target)).expect("create");
        let (mut from, mut to) = (100, 50);
        let mut left = 200_000;
        while left > 0 {
            let (from, to) = (Some(&mut from), Some(&mut to));
            let count = rustix::fs::copy_file_range(&source, from, &copy, to, left).expect("copy");
            assert!(count > 0);
            left -= count;
        }
        assert_eq!(stat(mount.path(target)).len(), 200_050);
        let bytes = std::fs::read(mount.path(target)).expect("read");
        assert!(bytes[..50].iter().all(|byte| *byte == 0));
        assert!(bytes[50..].iter().all(|byte| *byte == 5));
    }
    std::fs::copy(mount.path("fast"), mount.path("slow")).expect("copy onto the slower tier");
    assert_eq!(stat(mount.tier(1, "slow")).len(), 200_050);
}

/// O_DIRECT reads and writes whole blocks.
#[test]
fn direct_access_works() {
    let Some([dd]) = need::programs(["dd"]) else { return };
    let Some(below) = LoopFs::new("ext4", 64) else { return };
    for option in ["passthrough", "nopassthrough"] {
        let roots = [below.path().join(option), below.path().join(format!("{option}-slow"))];
        let Some(mount) = Setup::new().roots(&roots).option(option).mount() else { return };
        put(mount.home().join("source"), (0..1 << 20).map(|n| (n / 4096) as u8).collect::<Vec<_>>());
        let source = format!("if={}", mount.home().join("source").display());
        let file = format!("{}", mount.path("file").display());
        run(Command::new(&dd).args(["oflag=direct", "bs=64k", "status=none"]).args([&source, &format!("of={file}")]));
        let copy = format!("{}", mount.home().join("copy").display());
        run(Command::new(&dd)
            .args(["iflag=direct", "bs=64k", "status=none"])
            .args([&format!("if={file}"), &format!("of={copy}")]));
        let read = |path: &Path| std::fs::read(path).expect("read");
        assert!(read(&mount.home().join("source")) == read(Path::new(&copy)), "{option}");
        assert!(read(&mount.home().join("source")) == read(&mount.path("file")), "{option}");
        mount.unmount();
    }
}

/// A shared mapping writes to the file; the file's writes show in the mapping.
#[test]
fn shared_mappings_write_through() {
    let Some([xfs_io]) = need::programs(["xfs_io"]) else { return };
    on_each_path(&[b'a'; 8192], |mount, path, case| {
        let words = run(Command::new(&xfs_io)
            .args(["-c", "mmap -rw 0 8192", "-c", "mwrite -S 0x62 100 200"])
            .args(["-c", "pwrite -S 0x63 4096 10", "-c", "mread -v 4096 4", "-c", "msync -s"])
            .args(["-c", "munmap"])
            .arg(path));
        assert!(words.contains("63 63 63 63"), "{case}: {words}");
        let bytes = std::fs::read(path).expect("read");
        assert!(bytes[100..300].iter().all(|byte| *byte == b'b'), "{case}");
        assert!(bytes[4096..4106].iter().all(|byte| *byte == b'c'), "{case}");
        assert!(bytes[..100].iter().all(|byte| *byte == b'a'), "{case}");
        let name = path.file_name().expect("name");
        let tier = usize::from(name == "slow");
        assert!(std::fs::read(mount.tier(tier, name)).expect("read") == bytes, "{case}");
    });
}

/// A program runs from the mount (the kernel maps it privately), and while it runs it cannot be
/// written.
#[test]
fn programs_run_from_the_mount() {
    for option in ["passthrough", "nopassthrough"] {
        let setup = Setup::new().option(option).seed(|tiers| {
            for (tier, name) in tiers.iter().zip(["fast", "slow"]) {
                crate::common::fs::copy_program("/bin/cat", tier.join(name));
            }
        });
        let Some(mount) = setup.mount() else { return };
        for name in ["fast", "slow"] {
            let program = mount.path(name);
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("chmod");
            let mut child = Command::new(&program)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{option}, {name}: {error}"));
            child.stdin.take().expect("stdin").write_all(b"said").expect("write");
            let output = child.wait_with_output().expect("wait");
            assert_eq!(output.stdout, b"said", "{option}, {name}");
        }
    }
}

/// A running program cannot be truncated: the refusal comes before the contents are gone.
#[test]
fn a_running_program_keeps_its_contents() {
    for option in ["passthrough", "nopassthrough"] {
        let Some(mount) = Setup::new().option(option).mount() else { return };
        let program = mount.path("program");
        crate::common::fs::copy_program("/bin/cat", &program);
        let size = stat(&program).len();
        let piped = std::process::Stdio::piped;
        let mut child = Command::new(&program).stdin(piped()).stdout(piped()).spawn().expect("run");
        for flags in [OFlags::RDONLY | OFlags::TRUNC, OFlags::WRONLY | OFlags::TRUNC, OFlags::RDWR] {
            assert_eq!(errno(open(&program, flags, 0)), Errno::TXTBSY, "{option}, {flags:?}");
        }
        assert_eq!(stat(&program).len(), size, "{option}");
        drop(child.stdin.take());
        let status = child.wait().expect("wait");
        assert!(status.success(), "{option}: {status}");
    }
}

/// Positions beyond 4 GiB, in a sparse file.
#[test]
fn files_over_4_gib_work() {
    on_each_path(b"", |_, path, case| {
        let file = std::fs::File::options().read(true).write(true).open(path).expect("open");
        let far = (5 << 30) + 12345;
        file.write_all_at(b"far away", far).expect("write");
        assert_eq!(stat(path).len(), far + 8, "{case}");
        let mut seen = [0; 8];
        file.read_exact_at(&mut seen, far).expect("read");
        assert_eq!(&seen, b"far away", "{case}");
        assert!(stat(path).blocks() < 1000, "{case}: sparse");
        file.set_len(6 << 30).expect("extend");
        assert_eq!(stat(path).len(), 6 << 30, "{case}");
        file.set_len(3).expect("truncate");
        assert_eq!(std::fs::read(path).expect("read"), [0; 3], "{case}");
    });
}

/// fsync, fdatasync and syncfs work on files and directories of either tier.
#[test]
fn fsync_of_files_and_directories() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("dir/slow"), "x"));
    let Some(mount) = setup.mount() else { return };
    put(mount.path("dir/fast"), "y");
    for name in ["dir/fast", "dir/slow"] {
        let file = std::fs::File::options().write(true).open(mount.path(name)).expect("open");
        file.write_all_at(b"z", 0).expect("write");
        file.sync_all().expect("fsync");
        file.sync_data().expect("fdatasync");
    }
    let directory = std::fs::File::open(mount.path("dir")).expect("open");
    directory.sync_all().expect("fsync of a directory");
    rustix::fs::syncfs(&directory).expect("syncfs");
}

/// Unknown ioctls end at the mount; the ones about flags are answered.
#[test]
fn only_known_ioctls_pass() {
    let Some(fstrim) = need::programs(["fstrim"]) else { return };
    let Some(below) = LoopFs::new("ext4", 64) else { return };
    let roots = [below.path().join("fast"), below.path().join("slow")];
    let Some(mount) = Setup::new().roots(&roots).mount() else { return };
    let trimmed = Command::new(&fstrim[0]).arg(mount.root()).output().expect("fstrim runs");
    assert!(!trimmed.status.success(), "FITRIM on the mount must not reach a tier");
    put(mount.path("file"), "x");
    let file = std::fs::File::open(mount.path("file")).expect("open");
    let flags = rustix::fs::ioctl_getflags(&file).expect("FS_IOC_GETFLAGS");
    if only_plain("the stock program, which shows the tier, passes no flags") {
        return;
    }
    let below = std::fs::File::open(mount.tier(0, "file")).expect("open");
    assert_eq!(flags, rustix::fs::ioctl_getflags(&below).expect("FS_IOC_GETFLAGS below"));
}

/// The errors that a write or read of the wrong kind gets.
#[test]
fn wrong_uses_of_descriptors() {
    let setup = Setup::new().seed(|tiers| put(tiers[1].join("file"), "x"));
    let Some(mount) = setup.mount() else { return };
    let mut reader = std::fs::File::open(mount.path("file")).expect("open");
    assert_eq!(errno(reader.write(b"x")), Errno::BADF);
    let mut writer = std::fs::File::options().write(true).open(mount.path("file")).expect("open");
    assert_eq!(errno(writer.read(&mut [0])), Errno::BADF);
    let mut directory = std::fs::File::open(mount.root()).expect("open");
    assert_eq!(errno(directory.read(&mut [0])), Errno::ISDIR);
    let not = open(mount.path("file"), OFlags::RDONLY | OFlags::DIRECTORY, 0);
    assert_eq!(errno(not), Errno::NOTDIR);
}
