//! What clients have on a share: files, rights, attributes and streams, before a file moves and after.

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;

use crate::kit::Shared;

/// All that a client can ask of a file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Times, attributes and streams.
    info: String,
    acl: String,
    /// Size and time of change, as a listing has them.
    listed: String,
    /// What Samba makes the file's id of.
    ino: u64,
}

impl Shared {
    fn seen(&self, path: &str) -> Seen {
        let listed = self.client(0, "ls");
        let line = listed.lines().find(|line| line.trim_start().starts_with(&format!("{path} ")));
        Seen {
            info: self.client(0, &format!("allinfo {path}")),
            acl: self.acl(path, &[]),
            listed: line.unwrap_or_else(|| panic!("{path}: {listed}")).to_owned(),
            ino: self.mount.path(path).metadata().expect("stat").ino(),
        }
    }

    /// The NT ACL of a file; `change` are words for smbcacls.
    fn acl(&self, path: &str, change: &[&str]) -> String {
        let mut command = self.server.inside("smbcacls");
        command.args(["//127.0.0.1/docs", path, "-U", &self.server.credentials(&self.users[0])]).args(change);
        let output = command.output().expect("smbcacls");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{path} {change:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn set_acl(&self, path: &str, rights: &[(usize, &str)]) {
        let entry =
            |(user, right): &(usize, &str)| format!("ACL:TIERFSTEST\\{}:ALLOWED/0x0/{right}", self.users[*user].name);
        let entries: Vec<String> = rights.iter().map(entry).collect();
        self.acl(path, &["--set", &entries.join(",")]);
    }
}

#[test]
fn what_clients_see_of_a_file_is_the_same_after_moves() {
    let Some(shared) = Shared::over("ext4", 64, &[]) else { return };
    let data: Vec<u8> = (0..70_000u32).map(|n| (n % 251) as u8).collect();
    let (local, stream) = (shared.local("local", &data), shared.local("stream", b"beside it"));
    let put = |name: &str| format!("put {} {name}", local.display());
    shared.client(
        0,
        &[put("report.doc"), put("secret.doc"), format!("put {} report.doc:notes", stream.display())].join("; "),
    );
    shared.client(0, "setmode report.doc +hs; setmode report.doc -a");
    shared.set_acl("report.doc", &[(0, "FULL"), (1, "READ")]);
    shared.set_acl("secret.doc", &[(0, "FULL")]);
    let names = ["report.doc", "secret.doc"];
    let before = names.map(|name| shared.seen(name));
    assert!(before[0].info.contains("attributes: HS ("), "{before:?}");
    assert!(before[0].info.contains("stream: [:notes:$DATA], 9 bytes"), "{before:?}");
    assert!(before[0].acl.contains(&format!("\\{}:ALLOWED/0x0/READ", shared.users[1].name)), "{before:?}");

    // Deleting asks for the right of the directory, too, and everybody has that here.
    std::fs::set_permissions(shared.mount.root(), std::fs::Permissions::from_mode(0o1777)).expect("chmod");
    let usable = |when: &str| {
        for user in 0..2 {
            assert!(shared.get(user, "report.doc") == data, "{when}");
        }
        assert_eq!(shared.get(0, "report.doc:notes"), b"beside it", "{when}");
        assert!(shared.get(0, "secret.doc") == data, "{when}");
        shared.refused(1, "get secret.doc /dev/null", "NT_STATUS_ACCESS_DENIED");
        shared.refused(1, &put("report.doc"), "NT_STATUS_ACCESS_DENIED");
        shared.refused(1, "del report.doc", "NT_STATUS_ACCESS_DENIED");
    };
    usable("at first");
    // Reading has set the times of access, which are compared as well.
    let before = names.map(|name| shared.seen(name));
    let same = |when: &str, rank| {
        for (name, before) in names.iter().zip(&before) {
            assert_eq!(shared.rank(name), Some(rank), "{name} {when}");
            assert_eq!(&shared.seen(name), before, "{name} {when}");
        }
    };
    shared.demote_all(&names);
    same("after the demotion", 1);
    shared.promote_all(&names);
    same("after the promotion", 0);
    shared.demote_all(&names);
    same("after the second demotion", 1);
    usable("after all");
}

/// `smb_offline`: the attribute is shown and never kept.
#[test]
fn demoted_files_are_offline_where_that_is_wanted() {
    let Some(shared) = Shared::over("ext4", 32, &["smb_offline=demoted"]) else { return };
    let local = shared.local("local", b"contents");
    shared.client(0, &format!("put {} kept; mkdir folder", local.display()));
    // A file that no client has made has no DOS attributes at all.
    std::fs::write(shared.mount.path("bare"), b"bare").expect("write");
    let [user, _] = &shared.users;
    std::os::unix::fs::chown(shared.mount.path("bare"), Some(user.uid), Some(user.gid)).expect("chown");
    let attributes = |path: &str| {
        let text = shared.client(0, &format!("allinfo {path}"));
        let line = text.lines().find(|line| line.starts_with("attributes:")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{path}: {text}"))
    };
    let all = || ["kept", "bare", "folder"].map(attributes);
    assert_eq!(all(), ["attributes: A (20)", "attributes:  (80)", "attributes: D (10)"]);
    shared.demote_all(&["kept", "bare"]);
    assert_eq!(all(), ["attributes: OA (1020)", "attributes: O (1000)", "attributes: D (10)"]);
    let listed = shared.client(0, "ls");
    assert!(listed.lines().any(|line| line.contains("kept") && line.contains(" Ao ")), "{listed}");
    // A client that changes attributes sends back all it has seen.
    shared.client(0, "setmode kept +h; setmode bare +s");
    assert_eq!(all(), ["attributes: OHA (1022)", "attributes: OS (1004)", "attributes: D (10)"]);
    shared.promote_all(&["kept", "bare"]);
    assert_eq!(all(), ["attributes: HA (22)", "attributes: S (4)", "attributes: D (10)"]);
}

/// An owner pins from a client; who does not own the file cannot.
#[test]
fn a_pin_set_by_a_client_keeps_its_file() {
    let Some(shared) = Shared::over("ext4", 32, &[]) else { return };
    let local = shared.local("local", b"contents");
    shared.client(
        0,
        &format!("put {} pinned; put {} other; setea pinned tierfs.pin primary", local.display(), local.display()),
    );
    shared.refused(1, "setea other tierfs.pin primary", "NT_STATUS_ACCESS_DENIED");
    shared.demote_all(&["other"]);
    assert_eq!((shared.rank("pinned"), shared.rank("other")), (Some(0), Some(1)));
}

/// A word processor writes a new file beside the old one and renames it over.
#[test]
fn a_document_is_saved_over_one_that_was_demoted() {
    let Some(shared) = Shared::over("ext4", 32, &[]) else { return };
    let first = shared.local("first", b"first version");
    shared.client(0, &format!("put {} plan.docx", first.display()));
    shared.demote_all(&["plan.docx"]);
    let second = shared.local("second", b"second version");
    shared.client(
        0,
        &format!(
            "put {} ~tmp01.tmp; rename plan.docx ~old.tmp; rename ~tmp01.tmp plan.docx; del ~old.tmp",
            second.display()
        ),
    );
    assert_eq!(shared.get(0, "plan.docx"), b"second version");
    shared.demote_all(&["plan.docx"]);
    let third = shared.local("third", b"third version");
    shared.client(0, &format!("put {} ~tmp02.tmp; rename ~tmp02.tmp plan.docx -f", third.display()));
    assert_eq!(shared.get(0, "plan.docx"), b"third version");
    for rank in 0..2 {
        let there = crate::common::fs::names(shared.mount.tier(rank, ""));
        assert!(there.iter().all(|name| !name.as_encoded_bytes().starts_with(b"~")), "{there:?}");
    }
    shared.demote_all(&["plan.docx"]);
    assert_eq!(shared.get(0, "plan.docx"), b"third version");
}

/// Clients keep the mount busy; without it they must not fill the directory below.
#[test]
fn a_share_holds_its_mount_and_is_refused_without_it() {
    let Some(shared) = Shared::over("tmpfs", 16, &[]) else { return };
    let mut client = shared.server.stay(&shared.users[0], "docs", "hold", "open");
    assert_eq!(client.line(), "open");
    let umount = || {
        let output = shared.mount.tierfs().arg("umount").arg(shared.mount.root()).output().expect("tierfs runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = umount();
    assert_eq!(code, Some(75), "{words}");
    assert!(words.contains("is in use: see who with `fuser -vm "), "{words}");
    assert_eq!(client.tell("write still served"), "written");
    let closed = shared.server.inside("smbcontrol").args(["smbd", "close-share", "docs"]).status();
    assert!(closed.is_ok_and(|status| status.success()));
    crate::common::wait::until("smbd lets go", || (umount().0 != Some(75)).then_some(()));
    shared.refused(0, "ls", "NT_STATUS_ACCESS_DENIED");
    assert!(crate::common::fs::names(shared.mount.root()).is_empty());
}
