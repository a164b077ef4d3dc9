//! `pin`, `unpin`, `pins`, and the attribute behind them.

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::common::fs::{exists, put, set_times, set_xattr, xattr, xattr_names};
use crate::common::mount::Setup;
use crate::common::user::User;
use crate::{Ran, ran};

const PIN: &str = "user.tierfs.pin";

fn setup() -> Setup {
    Setup::new().seed(|tiers| {
        for name in ["both/keep", "cold", "own"] {
            put(tiers[0].join(name), name);
            set_times(tiers[0].join(name), 1_000_000_000, 1_000_000_000);
        }
        put(tiers[1].join("both/slow"), "slow");
    })
}

/// A pinned directory keeps what is below it; the pin is on every copy and not in any listing.
#[test]
fn a_pin_keeps_what_is_below_it() {
    let Some(mount) = setup().mount() else { return };
    let (root, both) = (mount.root(), mount.path("both"));
    let [root, both] = [&root, &both].map(|path| path.to_str().expect("UTF-8"));
    let own = mount.path("own");
    ran(&mut mount.tierfs_with(&["pin", both])).ended(0);
    ran(&mut mount.tierfs_with(&["pin", "--tier", "secondary", own.to_str().expect("UTF-8")])).ended(0);
    assert_eq!(xattr(both, PIN).expect("the pin"), b"primary");
    for rank in [0, 1] {
        assert_eq!(xattr(mount.tier(rank, "both"), PIN).expect("on each copy"), b"primary");
    }
    assert!(!xattr_names(both).contains(PIN));
    let listed = ran(&mut mount.tierfs_with(&["pins", root]));
    let expected = [format!("primary    {both}"), format!("secondary  {root}/own")];
    assert_eq!(listed.ended(0), expected);
    let moved = ran(&mut mount.tierfs_with(&["migrate", "-v", "--older-than", "1y", root]));
    moved.ended(0);
    for (rank, name) in [(0, "both/keep"), (1, "own"), (1, "cold")] {
        assert!(exists(mount.tier(rank, name)), "{name} is not on {rank}: {}", moved.out);
    }
    assert_eq!(xattr(mount.path("own"), PIN).expect("the pin goes along"), b"secondary");
    let kept = mount.path("both/keep");
    let explained = ran(&mut mount.tierfs_with(&["explain", "--older-than", "1y", kept.to_str().expect("UTF-8")]));
    explained.ended(0);
    assert!(explained.out.contains(&format!("to primary, set on {both}")), "{}", explained.out);
    assert!(explained.out.contains("it is pinned to primary"), "{}", explained.out);
    ran(&mut mount.tierfs_with(&["unpin", both])).ended(0);
    assert_eq!(xattr(both, PIN), Err(Errno::NODATA));
    ran(&mut mount.tierfs_with(&["unpin", both])).refused(1, "has no pin");
}

/// The attribute takes the words of tiers there are, and nothing else of tierfs's can be set.
#[test]
fn only_tiers_can_be_pinned_to() {
    let Some(mount) = setup().mount() else { return };
    let cold = mount.path("cold");
    for word in [&b"primary"[..], b"secondary"] {
        set_xattr(&cold, PIN, word);
        assert_eq!(xattr(&cold, PIN).expect("the pin"), word);
    }
    let set = |key: &str, word: &[u8]| rustix::fs::setxattr(&cold, key, word, XattrFlags::empty());
    for word in [&b"tier2"[..], b"", b"fast", b"\xff", b"primary\n"] {
        assert_eq!(set(PIN, word), Err(Errno::INVAL), "{word:?}");
    }
    for key in ["user.tierfs.tier", "user.tierfs.control", "user.tierfs.pins", "user.tierfs.stamp"] {
        assert_eq!(set(key, b"primary"), Err(Errno::PERM), "{key}");
        assert_eq!(rustix::fs::removexattr(&cold, key), Err(Errno::PERM), "{key}");
    }
    assert_eq!(xattr(&cold, PIN).expect("unchanged"), b"secondary");
}

/// The right to write a file is not the right to say where it is kept.
#[test]
fn only_owner_and_root_may_pin() {
    let Some([owner, other]) = User::two() else { return };
    let setup = setup().seed(|tiers| {
        let file = tiers[0].join("cold");
        std::os::unix::fs::chown(&file, Some(owner.uid), Some(owner.gid)).expect("chown");
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(file, all).expect("chmod");
    });
    let Some(mount) = setup.mount() else { return };
    let cold = mount.path("cold");
    let set = || rustix::fs::setxattr(&cold, PIN, b"primary", XattrFlags::empty());
    assert_eq!(other.run(set), Err(Errno::PERM));
    assert_eq!(xattr(&cold, PIN), Err(Errno::NODATA));
    assert_eq!(owner.run(set), Ok(()));
    assert_eq!(other.run(|| rustix::fs::removexattr(&cold, PIN)), Err(Errno::PERM));
    assert_eq!(owner.run(|| rustix::fs::removexattr(&cold, PIN)), Ok(()));
}

/// A path outside of a mount gets no attribute that nobody reads.
#[test]
fn a_path_outside_is_not_pinned() {
    let Some(mount) = setup().mount() else { return };
    let outside = mount.home().join("outside");
    put(&outside, "x");
    let refused: Ran = ran(&mut mount.tierfs_with(&["pin", outside.to_str().expect("UTF-8")]));
    refused.refused(1, "is not in a mounted tierfs");
    assert_eq!(xattr(&outside, PIN), Err(Errno::NODATA));
    std::os::unix::fs::symlink("cold", mount.path("link")).expect("symlink");
    let link = mount.path("link");
    ran(&mut mount.tierfs_with(&["pin", link.to_str().expect("UTF-8")])).refused(1, "only files and directories");
}

/// A pin that was set beside the mount, with an editor's newline or a slip: the commands read it as a run
/// does.
#[test]
fn regression_the_commands_read_pins_as_a_run_does() {
    let setup = setup();
    set_xattr(setup.tier(0).join("own"), PIN, b"primary\n");
    set_xattr(setup.tier(0).join("cold"), PIN, b"slow");
    let Some(mount) = setup.mount() else { return };
    let [root, own, cold] = [mount.root(), mount.path("own"), mount.path("cold")];
    let [root, own, cold] = [&root, &own, &cold].map(|path| path.to_str().expect("UTF-8"));
    let listed = ran(&mut mount.tierfs_with(&["pins", root]));
    assert_eq!(listed.ended(3), [format!("primary    {own}")]);
    assert!(listed.err.contains(cold) && listed.err.contains("names no tier"), "{}", listed.err);
    for file in [own, cold] {
        let explained = ran(&mut mount.tierfs_with(&["explain", "--older-than", "1y", file]));
        assert!(explained.out.contains("it is pinned to primary"), "{}{}", explained.out, explained.err);
    }
    let moved = ran(&mut mount.tierfs_with(&["migrate", "--older-than", "1y", root]));
    assert!([own, cold].iter().all(|file| exists(mount.tier(0, file.rsplit('/').next().unwrap()))), "{}", moved.out);
}
