//! Eight clients at once, as root and as two users, with a model of what must be left.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;

use crate::common::fs::{exists, get, names, put, rename, stat};
use crate::common::loopfs::LoopFs;
use crate::common::mount::{Setup, TestMount};
use crate::common::user::User;
use crate::common::wait;

/// Files of one client; eight clients make 24,000.
const FILES: usize = 3000;
const CLIENTS: usize = 8;

/// What must be left: path, contents, owner.
type Model = BTreeMap<PathBuf, (String, u32)>;

/// Creates, renames and deletes in shared directories of both tiers, without deadlock, without a
/// lost or resurrected file, without a descriptor left in the daemon.
#[test]
fn eight_clients_leave_exactly_what_they_should() {
    let Some(users) = User::two() else { return };
    let Some(memory) = LoopFs::new("tmpfs", 512) else { return };
    let roots = [memory.path().join("fast"), memory.path().join("slow")];
    let setup = Setup::new().roots(&roots).seed(|tiers| {
        for folder in 0..8 {
            // Some directories on one tier, some on both.
            for (rank, tier) in tiers.iter().enumerate() {
                if folder % 3 == rank || folder % 3 == 2 {
                    make_open(&tier.join(format!("shared{folder}")));
                }
            }
        }
        make_open(&tiers[1].join("contested"));
    });
    let Some(mount) = setup.mount() else { return };
    warm_up(&mount);
    let before = mount.descriptors();
    let expected = storm(&mount, &users);
    check(&mount.root(), &expected);
    check_tiers(&mount, &expected);
    wait::until("the daemon has as many descriptors as before", || {
        drop_caches();
        (mount.descriptors() <= before + 8).then_some(())
    });
    let mount = mount.remount();
    check(&mount.root(), &expected);
}

fn make_open(path: &Path) {
    std::fs::create_dir(path).expect("mkdir");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("chmod");
}

/// Lets the daemon open what it keeps open for good.
fn warm_up(mount: &TestMount) {
    for folder in names(mount.root()) {
        put(mount.path(&folder).join("warm"), "x");
        std::fs::remove_file(mount.path(&folder).join("warm")).expect("unlink");
    }
}

/// Makes the kernel forget inodes, so that the daemon may close what it holds for them.
fn drop_caches() {
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "2");
}

fn storm(mount: &TestMount, users: &[User; 2]) -> Model {
    let client = |number: usize| -> Model {
        match number % 4 {
            0 | 1 => work(mount, number, 0),
            user => users[user - 2].run(|| work(mount, number, users[user - 2].uid)),
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let models = clients.into_iter().map(|client| client.join().expect("a client fails"));
        models.flatten().collect()
    })
}

/// One client: its own names in directories that all share, and fights over common names.
fn work(mount: &TestMount, number: usize, uid: u32) -> Model {
    let mut left = Model::new();
    let place = |folder: usize, name: &str| PathBuf::from(format!("shared{}/{name}", folder % 8));
    for file in 0..FILES {
        let name = format!("client{number} file{file}");
        let first = place(number + file, &name);
        let text = format!("{name} of {uid}");
        put(mount.path(&first), &text);
        let second = place(number + file * 3 + 1, &format!("{name} renamed"));
        let last = match file % 4 {
            0 => first,
            1 => {
                rename(mount.path(&first), mount.path(&second), RenameFlags::NOREPLACE).expect("rename to a new name");
                second
            }
            2 => {
                let over = place(number + file * 5, &format!("{name} target"));
                put(mount.path(&over), "to be replaced");
                std::fs::rename(mount.path(&first), mount.path(&over)).expect("rename over");
                over
            }
            _ => {
                std::fs::remove_file(mount.path(&first)).expect("unlink");
                assert!(!exists(mount.path(&first)), "{first:?} is back");
                fight(mount, file);
                continue;
            }
        };
        left.insert(last, (text, uid));
    }
    left
}

/// All clients use the same few names: any outcome is right but a hang or a strange error.
fn fight(mount: &TestMount, round: usize) {
    let name = |number: usize| mount.path(format!("contested/name{}", number % 7));
    let outcome = match round / 4 % 5 {
        0 => std::fs::write(name(round), "x"),
        1 => std::fs::rename(name(round), name(round + 1)),
        2 => std::fs::create_dir(name(round)),
        3 => std::fs::remove_file(name(round)),
        _ => std::fs::remove_dir(name(round)),
    };
    if let Err(error) = outcome {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(&error).expect("an error number");
        let usual =
            [Errno::NOENT, Errno::EXIST, Errno::ISDIR, Errno::NOTDIR, Errno::NOTEMPTY, Errno::ACCESS, Errno::PERM];
        assert!(usual.contains(&errno), "{error} in round {round}");
    }
}

fn check(root: &Path, expected: &Model) {
    let mut found = 0;
    for folder in 0..8 {
        let folder = PathBuf::from(format!("shared{folder}"));
        for name in names(root.join(&folder)) {
            let path = folder.join(name);
            let (text, uid) = expected.get(&path).unwrap_or_else(|| panic!("{path:?} should not be there"));
            assert_eq!(&get(root.join(&path)), text);
            assert_eq!(stat(root.join(&path)).uid(), *uid, "{path:?}");
            found += 1;
        }
    }
    assert_eq!(found, expected.len(), "some files are lost");
}

/// No tier holds a file that the model does not know.
fn check_tiers(mount: &TestMount, expected: &Model) {
    let mut count = 0;
    for root in mount.roots() {
        for folder in names(root).iter().filter(|name| *name != "contested") {
            for name in names(root.join(folder)) {
                let path = Path::new(folder).join(name);
                assert!(expected.contains_key(&path), "{path:?} in {root:?} is a leftover");
                count += 1;
            }
        }
    }
    assert_eq!(count, expected.len(), "some files have more than one copy");
}
