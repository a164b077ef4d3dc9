//! Where nothing is wrong.

use crate::Said;
use crate::common::fs::names;
use crate::common::mount::Setup;
use crate::common::user::User;
use crate::common::wait;

#[test]
fn a_mount_in_order_has_nothing_to_mend_and_keeps_no_trace_of_the_look() {
    let Some(mount) = Setup::new().mount() else { return };
    let all = || ["", ".tierfs"].map(|dir| [names(mount.tier(0, dir)), names(mount.tier(1, dir))]);
    let before = all();
    let said = Said::of(&mount);
    assert_eq!(said.code, Some(0), "{:?}", said.list);
    assert!(said.troubles().is_empty(), "{:?}", said.troubles());
    for check in ["mount", "degraded", "markers", "overlap", "tier", "space", "case-conflicts", "attributes", "acl"] {
        assert!(said.list.iter().any(|value| value["check"] == check), "{check} was not looked at: {:?}", said.list);
    }
    assert_eq!(before, all());
}

#[test]
fn an_ordinary_user_looks_at_his_own_mount() {
    let Some([user, _]) = User::two() else { return };
    let Some(mount) = Setup::new().by(&user).mount() else { return };
    let said = Said::of(&mount);
    assert!(said.list.iter().any(|value| value["check"] == "fusermount" && value["level"] == "fine"));
    assert_eq!(said.told("tier"), None);
    assert_eq!(said.told("mount"), None);
    assert_eq!(said.code, Some(0), "{:?}", said.troubles());
}

#[test]
fn what_is_fine_is_counted_for_people_and_told_if_asked_for() {
    let Some(mount) = Setup::new().mount() else { return };
    let run = |more: &[&str]| {
        let output = wait::output(mount.tierfs().arg("doctor").args(more).arg(mount.root()));
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let short = run(&[]);
    assert!(short.contains(" checks fine") && !short.contains("  fine  "), "{short}");
    assert!(!short.contains('\x1b'), "no colours but on a terminal: {short}");
    let long = run(&["--verbose"]);
    assert!(long.contains("  fine     it answers\n"), "{long}");
}

#[test]
fn a_name_that_means_nothing_is_code_2() {
    let Some(mount) = Setup::new().mount() else { return };
    let output = wait::output(mount.tierfs().args(["doctor", "/no/such/thing"]));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("is no mount of tierfs, no configuration file") && told.lines().count() == 1, "{told}");
}
