//! What an ordinary user sees of a tree by find, stat and md5sum, before, during and after moves.

use std::path::Path;

use crate::common::fs::put;
use crate::common::user::User;
use crate::common::{need, trees};
use crate::moving::{all_down, all_up, ends_clean, on_disks, run, while_moving};

/// Names, attributes and sums, as `user` gets them: but no access times, which reading moves, no space, and
/// of directories no change times and links, which tell on how many tiers they are.
fn seen(user: &User, root: &Path) -> String {
    let (file, dir) = ("%P %i %s %T@ %C@ %U %G %m %n %y %l\\n", "%P %i %T@ %U %G %m %y\\n");
    let find = run(user.command("find").arg(root).args(["-type", "d", "-printf", dir, "-o", "-printf", file]));
    let stat =
        run(user.command("sh").args(["-c", "find \"$0\" -type f -exec stat -c '%n %i %s %Y %Z %a %h' {} +"]).arg(root));
    let sums = run(user.command("sh").args(["-c", "find \"$0\" -type f -exec md5sum {} +"]).arg(root));
    let sort = |text: String| {
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    [find, stat, sums].map(sort).join("\n")
}

#[test]
fn an_ordinary_user_sees_the_same_tree_before_during_and_after_moves() {
    if need::programs(["find", "md5sum", "setpriv"]).is_none() {
        return;
    }
    let Some([user, _]) = User::two() else { return };
    for option in ["passthrough", "nopassthrough"] {
        let Some((_tiers, mount)) = on_disks(512, &[option]) else { return };
        for at in 0..200 {
            put(mount.path(format!("tree/d{}/e{}/f{at}", at % 5, at % 7)), trees::bytes(at, 37 * at * at % 90_000));
        }
        std::fs::hard_link(mount.path("tree/d1/e1/f1"), mount.path("tree/second")).expect("link");
        std::os::unix::fs::symlink("d1/e1/f1", mount.path("tree/link")).expect("symlink");
        let root = mount.path("tree");
        let before = seen(&user, &root);
        assert!(before.lines().count() > 600, "{before}");
        let same = |when: &str| {
            let now = seen(&user, &root);
            let differ = before.lines().zip(now.lines()).find(|(a, b)| a != b);
            assert!(now == before, "{when}: {differ:?}, {} lines", now.lines().count());
        };
        while_moving(&mount, |moves| moves.rounds(6, 20, |_| same("during")));
        all_down(&mount);
        same("down");
        all_up(&mount);
        same("up");
        let mount = mount.remount();
        same("after a remount");
        ends_clean(mount);
    }
}
