//! Copies of a view: who can open them, and what is copied the next time.

use std::path::Path;
use std::process::Command;

use crate::common::fs::{get, put, set_xattr};
use crate::common::trees::{long, plant, same, settle};
use crate::common::{need, wait};
use crate::kit::{Ground, View, mirror};

fn view_with(ground: &Ground, name: &str, conf: &Path) -> View {
    ground.encrypt(name, &["--conf".as_ref(), conf.as_os_str(), ground.source().as_os_str()])
}

fn opens_everywhere(flags: &[&str]) {
    let Some(ground) = Ground::new() else { return };
    plant(&ground.source());
    let conf = ground.init_outside(flags);
    let view = view_with(&ground, "view", &conf);
    let copy = ground.path("copy");
    let output = wait::output(Command::new("cp").arg("-a").arg(view.root()).arg(&copy));
    assert!(output.status.success(), "{output:?}");
    view.unmount();
    let stock = ground.volume(&copy).mount(&ground.path("stock"));
    same(&ground.source(), stock.root(), "by the stock program");
    drop(stock);
    let before = crate::common::trees::picture(&copy);
    let plain = ground.decrypt("plain", &[copy.as_os_str()]);
    same(&ground.source(), plain.root(), "by tierfs");
    let refused = std::fs::write(plain.root().join("new"), "x").expect_err("read-only");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    plain.unmount();
    assert!(crate::common::trees::differences(&before, &crate::common::trees::picture(&copy)).is_none());
}

#[test]
fn a_copy_opens_with_the_stock_program_and_with_tierfs() {
    opens_everywhere(&[]);
}

#[test]
fn a_copy_with_plain_names_opens_as_well() {
    opens_everywhere(&["-plaintextnames"]);
}

#[test]
fn a_copy_with_deterministic_names_opens_as_well() {
    opens_everywhere(&["-deterministic-names", "-longnamemax", "64"]);
}

#[test]
fn a_view_opens_as_it_is() {
    let Some(ground) = Ground::new() else { return };
    plant(&ground.source());
    let conf = ground.init_outside(&[]);
    let view = view_with(&ground, "view", &conf);
    let plain = ground.decrypt("plain", &[view.root().as_os_str()]);
    same(&ground.source(), plain.root(), "there and back");
    plain.unmount();
    view.unmount();
}

/// Also where another run made the view, and where names of one file were read in another order.
#[test]
fn a_mirror_gets_only_what_changed() {
    let Some(ground) = Ground::new() else { return };
    if need::programs(["rsync"]).is_none() {
        return;
    }
    plant(&ground.source());
    let conf = ground.init_outside(&[]);
    let copy = ground.dir("copy");
    let view = view_with(&ground, "view", &conf);
    assert!(mirror(view.root(), &copy).len() > 80);
    assert_eq!(mirror(view.root(), &copy), Vec::<String>::new());
    view.unmount();
    // What a directory holds changes, and one file.
    put(ground.source().join("names/another"), "another");
    put(ground.source().join("sizes/s4096"), "other");
    let view = view_with(&ground, "view", &conf);
    for links in ["deep/one", "links/one"] {
        assert_eq!(get(ground.source().join(links)), "linked");
    }
    let lines = mirror(view.root(), &copy);
    let (dirs, files): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.ends_with('/'));
    assert_eq!((dirs.len(), files.len()), (1, 2), "{lines:?}");
    let comparing = Command::new("diff").arg("-r").arg("--no-dereference").arg(view.root()).arg(&copy).output();
    let comparing = comparing.expect("diff runs");
    let words = String::from_utf8_lossy(&comparing.stdout).into_owned();
    let differ: Vec<&str> = words.lines().filter(|line| !line.contains("is a fifo while")).collect();
    assert!(differ.is_empty(), "{differ:?}");
    view.unmount();
}

#[test]
fn names_of_one_file_have_the_same_bytes_in_every_run() {
    let Some(ground) = Ground::new() else { return };
    let names = ["a".to_owned(), "b".to_owned(), long('l', 200)];
    put(ground.source().join("a"), vec![7; 9000]);
    for name in &names[1..] {
        std::fs::hard_link(ground.source().join("a"), ground.source().join(name)).expect("link");
    }
    ground.init(&["-plaintextnames"]);
    let read = |order: &[usize]| {
        let view = ground.view("view");
        let mut read: Vec<_> =
            order.iter().map(|at| std::fs::read(view.root().join(&names[*at])).expect("read")).collect();
        view.unmount();
        read.dedup();
        assert_eq!(read.len(), 1, "all names have the same bytes");
        read.pop()
    };
    assert_eq!(read(&[0, 1, 2]), read(&[2, 1, 0]));
}

/// The configuration of another volume would show nothing but errors.
#[test]
fn a_conf_of_another_volume_is_refused() {
    let Some(ground) = Ground::new() else { return };
    let [one, other] = ["one", "other"].map(|name| ground.forward(name));
    let plain = ground.path("stock");
    let stock = one.mount(&plain);
    put(stock.path("file"), "some text");
    drop(stock);
    let conf = other.cipher.join("gocryptfs.conf");
    let words = ["--conf".as_ref(), conf.as_os_str(), one.cipher.as_os_str()];
    let (code, line) = ground.start("decrypt-view", "view", &words).expect_err("refused");
    assert_eq!(code, Some(78), "{line}");
    assert!(line.contains("is not the configuration of what is in"), "{line}");
    let view = ground.decrypt("view", &[one.cipher.as_os_str()]);
    assert_eq!(get(view.root().join("file")), "some text");
    view.unmount();
}

#[test]
fn attributes_are_copied_and_come_back() {
    let Some(ground) = Ground::new() else { return };
    put(ground.source().join("f"), "x");
    set_xattr(ground.source().join("f"), "user.key", b"value");
    settle(&ground.source());
    let conf = ground.init_outside(&[]);
    let view = view_with(&ground, "view", &conf);
    let plain = ground.decrypt("plain", &[view.root().as_os_str()]);
    let names = crate::common::fs::xattr_names(plain.root().join("f"));
    assert!(names.contains("user.key"), "{names:?}");
    assert_eq!(crate::common::fs::xattr(plain.root().join("f"), "user.key").expect("xattr"), b"value");
    plain.unmount();
    view.unmount();
}
