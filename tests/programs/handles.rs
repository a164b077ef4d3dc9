//! File handles, as a server of NFS keeps them: they lead to the same file after it has moved.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::common::fs::{get, open, put, stat};
use crate::common::mount::TestMount;
use crate::common::{need, trees};
use crate::moving::{all_down, all_up, ends_clean, on_disks, while_moving};

/// The process that works with handles.
struct Handles {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Handles {
    fn of(mount: &TestMount) -> Handles {
        let mut command = Command::new(need::PYTHON);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/handles.py")).arg(mount.root());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 runs");
        let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Handles { child, to, from: BufReader::new(from) }
    }

    fn ask(&mut self, words: &str) -> String {
        writeln!(self.to, "{words}").expect("ask");
        let mut answer = String::new();
        self.from.read_line(&mut answer).expect("answer");
        answer.trim().to_owned()
    }

    fn end(mut self) {
        drop(self.to);
        assert!(self.child.wait().expect("wait").success());
    }
}

/// A file, its handle, and what the handle must lead to.
struct Known {
    path: std::path::PathBuf,
    handle: String,
    shown: String,
    /// While it is there the kernel knows the file, and tierfs need not remember it: another test may have the kernel
    /// drop all that is in nobody's hands. Such a descriptor opens nothing, so the file moves as ever.
    known: Option<std::fs::File>,
}

fn keep_known(path: &std::path::Path) -> std::fs::File {
    open(path, rustix::fs::OFlags::PATH, 0).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn take_all(mount: &TestMount, handles: &mut Handles) -> Vec<Known> {
    let files = (0..30).map(|at| mount.path(format!("d{}/e/f{at}", at % 3)));
    let known = files.enumerate().map(|(at, path)| {
        put(&path, trees::bytes(at, 5000 * at));
        let known = Some(keep_known(&path));
        let handle = handles.ask(&format!("take {}", path.display()));
        let shown = handles.ask(&format!("open {handle}"));
        assert_eq!(shown.split(' ').next(), Some(&*stat(&path).ino().to_string()), "{path:?}");
        Known { path, handle, shown, known }
    });
    known.collect()
}

#[test]
fn a_handle_leads_to_the_same_file_wherever_it_is() {
    if need::programs([need::PYTHON]).is_none() {
        return;
    }
    for (option, remember) in [("nopassthrough", 0), ("passthrough", 1000)] {
        let remembers = format!("remember={remember}");
        let Some((_tiers, mount)) = on_disks(512, &[option, &remembers]) else { return };
        let mut handles = Handles::of(&mount);
        let mut known = take_all(&mount, &mut handles);
        while_moving(&mount, |moves| {
            moves.rounds(5, 30, |_| {
                for one in &known {
                    assert_eq!(handles.ask(&format!("open {}", one.handle)), one.shown, "{:?}", one.path);
                }
                moves.rest();
            });
        });
        for when in ["down", "up"] {
            if when == "down" {
                all_down(&mount)
            } else {
                all_up(&mount)
            }
            for one in &known {
                assert_eq!(handles.ask(&format!("open {}", one.handle)), one.shown, "{when}: {:?}", one.path);
                assert_eq!(handles.ask(&format!("take {}", one.path.display())), one.handle, "{when}: {:?}", one.path);
            }
        }
        all_down(&mount);
        let first = &known[0];
        assert_eq!(handles.ask(&format!("write {} more", first.handle)), "ok");
        assert_eq!(get(&first.path), "more");
        std::fs::rename(&known[1].path, mount.path("renamed")).expect("rename");
        assert_eq!(handles.ask(&format!("open {}", known[1].handle)), known[1].shown);
        known.iter_mut().skip(2).for_each(|one| one.known = None);
        std::fs::remove_file(&known[2].path).expect("unlink");
        assert_eq!(handles.ask(&format!("open {}", known[2].handle)), "ESTALE");
        forgotten(&mount, &mut handles, &known[3..], remember > 0);
        handles.end();
        drop(known);
        ends_clean(mount);
    }
}

/// The kernel has dropped what it knew: each handle leads to its file, or says ESTALE where tierfs need not
/// remember, and never leads to another.
fn forgotten(mount: &TestMount, handles: &mut Handles, known: &[Known], remembers: bool) {
    for all in [all_up, all_down] {
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        all(mount);
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        for one in known {
            let answer = handles.ask(&format!("open {}", one.handle));
            assert!(answer == one.shown || (answer == "ESTALE" && !remembers), "{:?}: {answer}", one.path);
        }
    }
    for one in known {
        // Who comes by the name again has the same file, and the old handle works again.
        let _known = keep_known(&one.path);
        assert_eq!(handles.ask(&format!("take {}", one.path.display())), one.handle, "{:?}", one.path);
        assert_eq!(handles.ask(&format!("open {}", one.handle)), one.shown, "{:?}", one.path);
    }
}
