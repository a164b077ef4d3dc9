//! What other users, logs and dumps see of passphrases and keys: nothing.

use super::*;

#[test]
fn no_passphrase_is_seen_from_outside() {
    let home = Home::with_volume();
    let master = home.master("old");
    // A program that waits while the command can be looked at.
    let script = "#!/bin/sh\necho running > mark\nwhile [ ! -e go ]; do sleep 0.05; done\ncat old\n";
    fs::put_script(home.path("ask"), script);
    let mut command = home.command("test --extpass ./ask VOLUME");
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let child = command.stderr(std::process::Stdio::piped()).spawn().expect("tierfs runs");
    wait::until("the program runs", || is_there(&home.path("mark")).then_some(()));
    let of = |file: &str| std::fs::read(format!("/proc/{}/{file}", child.id())).expect("proc");
    let (limits, environment) = (String::from_utf8_lossy(&of("limits")).into_owned(), of("environ"));
    fs::put(home.path("go"), "");
    let ran = Ran::of(&child.wait_with_output().expect("output"));
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("limit").to_owned();
    assert!(core.split_whitespace().nth(4) == Some("0"), "{core}");
    assert!(!String::from_utf8_lossy(&environment).contains("horse"));
    for told in [&ran.out, &ran.err] {
        assert!(!told.contains("horse") && !told.contains(&master[..8]), "{told}");
    }
    ran.done();
}

#[test]
fn a_master_key_goes_to_no_pipe_unasked() {
    let home = Home::new();
    let ran = home.key("init --scrypt-cost 10 --passfile OLD VOLUME");
    assert!(ran.err.contains("--print-master-key"), "{ran:?}");
    let out = ran.done();
    let master = home.master("old");
    assert_eq!(master.len(), 71, "eight groups of eight and the dashes between");
    assert!(!out.contains(&master[..8]));
    let home = Home::new();
    let out = home.key("init --print-master-key --scrypt-cost 10 --passfile OLD VOLUME").done();
    assert!(out.contains(&home.master("old")[..36]));
}

#[test]
fn wrong_passphrases_are_in_no_message() {
    let home = Home::with_volume();
    for arguments in ["test --passfile NEW VOLUME", "test --master-key --passfile NEW VOLUME"] {
        let ran = home.key(arguments);
        assert!(ran.code != Some(0) && !ran.err.contains("staple"), "{ran:?}");
    }
    let mut command = home.command("test VOLUME --extpass");
    let ran = Ran::of(&wait::output(command.arg("/nowhere/at/all --secret=horse")));
    assert!(!ran.err.contains("horse"), "{ran:?}");
}
