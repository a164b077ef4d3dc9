//! Where passphrases come from.

use super::*;
use common::need;

#[test]
fn every_file_and_program_gives_the_passphrase() {
    let home = Home::with_volume();
    home.secret("key", "correct horse");
    for source in ["--passfile OLD", "--keyfile OLD", "--keyfile @key"] {
        home.key(&format!("test {source} VOLUME")).done();
    }
    let mut command = home.command("test VOLUME --extpass");
    Ran::of(&wait::output(command.arg("cat old"))).done();
    let mut command = home.command("test --credential docs VOLUME");
    let credentials = home.path("credentials");
    std::fs::create_dir(&credentials).expect("directory");
    std::fs::copy(home.path("old"), credentials.join("docs")).expect("copy");
    Ran::of(&wait::output(command.env("CREDENTIALS_DIRECTORY", &credentials))).done();
}

#[test]
fn the_keyring_gives_the_passphrase() {
    let Some([keyctl]) = need::programs(["keyctl"]) else { return };
    let home = Home::with_volume();
    let name = format!("tierfs-test-{}", std::process::id());
    home.key(&format!("test --keyring {name} VOLUME")).refused(1, "is not there");
    let add = wait::output(Command::new(&keyctl).args(["add", "user", &name, "correct horse", "@u"]));
    if !add.status.success() {
        return need::skip(&format!("keyctl: {}", String::from_utf8_lossy(&add.stderr)));
    }
    let ran = home.key(&format!("test --keyring {name} VOLUME"));
    // A session of its own, as services have, leads to the user's keyring too.
    let mut alone = Command::new(&keyctl);
    alone.args(["session", "-"]).arg(mount::program()).args(["key", "test", "--keyring", &name]).arg(home.volume());
    let alone = Ran::of(&wait::output(&mut alone));
    let id = String::from_utf8_lossy(&add.stdout).trim().to_owned();
    wait::output(Command::new(&keyctl).args(["unlink", &id, "@u"]));
    ran.done();
    alone.done();
}

/// Runs a command at a terminal of its own and types lines.
fn at_a_terminal(home: &Home, arguments: &str, lines: &str) -> Option<Ran> {
    let [script] = need::programs(["script"])?;
    let command = home.command(arguments);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut child = Command::new(script)
        .args(["-qec", &words.join(" "), "/dev/null"])
        .current_dir(home.dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("script runs");
    // The end of the input ends the terminal, so it stays open until the command is over.
    let mut typed = child.stdin.take().expect("input");
    std::io::Write::write_all(&mut typed, lines.as_bytes()).expect("typed");
    wait::until("the command ends", || child.try_wait().expect("wait"));
    drop(typed);
    Some(Ran::of(&child.wait_with_output().expect("output")))
}

#[test]
fn a_terminal_asks_and_shows_the_master_key_once() {
    let home = Home::new();
    let Some(ran) = at_a_terminal(&home, "init --scrypt-cost 10 VOLUME", "correct horse\ncorrect horse\n") else {
        return;
    };
    let told = ran.done();
    assert!(told.contains("New passphrase of") && told.contains("Once more"), "{told}");
    let master = home.master("old");
    let (one, two) = master.split_at(36);
    assert!(told.contains(one) && told.contains(two), "{told}");
    let ran = at_a_terminal(&home, "test VOLUME", "correct horse\n").expect("as before");
    assert!(!ran.done().contains(one));
    let ran = at_a_terminal(&home, "test VOLUME", "wrong\n").expect("as before");
    assert_eq!(ran.code, Some(77), "{ran:?}");
    let ran = at_a_terminal(&home, "passwd VOLUME", "correct horse\nbattery\nstaple\n").expect("as before");
    assert!(ran.code == Some(1) && ran.out.contains("not the same"), "{ran:?}");
    home.key("test --passfile OLD VOLUME").done();
}

#[test]
fn what_gives_no_passphrase_is_told() {
    let home = Home::with_volume();
    home.secret("empty", "");
    home.secret("lines", "one\ntwo\n");
    for (source, code, says) in [
        ("--passfile @empty", 1, "empty"),
        ("--keyfile @lines", 1, "base64"),
        ("--passfile @absent", 1, "No such file"),
        ("--passfile .", 1, "Is a directory"),
        ("--credential docs", 1, "LoadCredential=docs"),
        ("--extpass false", 1, "failed"),
        ("--extpass /nowhere", 1, "cannot be run"),
        ("--keyring tierfs-no-such-key", 1, "is not there"),
    ] {
        let mut command = home.command(&format!("test {source} VOLUME"));
        Ran::of(&wait::output(command.env_remove("CREDENTIALS_DIRECTORY"))).refused(code, says);
    }
    let both = home.key("test --passfile OLD --keyfile OLD VOLUME");
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let Some([setsid]) = need::programs(["setsid"]) else { return };
    let home = Home::with_volume();
    let command = home.command("test VOLUME");
    let mut alone = Command::new(setsid);
    alone.arg("-w").arg(command.get_program()).args(command.get_args());
    Ran::of(&wait::output(&mut alone)).refused(2, "--passfile");
}

#[test]
fn a_passfile_that_others_can_read_is_told_and_used() {
    let home = Home::with_volume();
    std::fs::set_permissions(home.path("old"), std::fs::Permissions::from_mode(0o644)).expect("mode");
    let ran = home.key("test --passfile OLD VOLUME");
    assert!(ran.err.contains("warning") && ran.err.contains("chmod 600"), "{ran:?}");
    ran.done();
}
