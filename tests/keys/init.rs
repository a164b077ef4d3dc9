//! Making volumes, and what is refused.

use super::*;
use common::loopfs::LoopFs;
use common::need;

#[test]
fn a_volume_is_made_in_an_empty_directory_alone() {
    let home = Home::new();
    fs::put(home.volume().join("old file"), "x");
    home.key("init --passfile OLD VOLUME").refused(1, "not empty (old file)");
    std::fs::remove_file(home.volume().join("old file")).expect("removed");
    std::fs::create_dir(home.volume().join("lost+found")).expect("directory");
    home.key("init --passfile OLD VOLUME").refused(1, "a directory below it");
    assert_eq!(fs::names(home.volume()), ["lost+found"], "nothing was left");
    home.key("init --passfile OLD @absent").refused(1, "mkdir -p");
    home.key("init --passfile OLD OLD").refused(1, "Not a directory");
    std::fs::remove_dir(home.volume().join("lost+found")).expect("removed");
    home.key("init --passfile OLD --conf @volume/x.conf VOLUME").refused(1, "outside");
    assert!(fs::names(home.volume()).is_empty(), "nothing was left");
    home.key("test --passfile OLD VOLUME").refused(78, "no encrypted volume");
    home.key("test --passfile OLD @absent").refused(1, "No such file");
}

#[test]
fn a_volume_is_not_made_twice() {
    let home = Home::with_volume();
    let conf = std::fs::read(home.volume().join("gocryptfs.conf")).expect("conf");
    home.key("init --passfile NEW VOLUME").refused(1, "is there already");
    home.key("init --reverse --passfile NEW VOLUME").done();
    home.key("init --reverse --passfile NEW VOLUME").refused(1, "is there already");
    assert_eq!(std::fs::read(home.volume().join("gocryptfs.conf")).expect("conf"), conf);
}

#[test]
fn files_have_the_modes_of_gocryptfs() {
    let home = Home::with_volume();
    for (name, mode) in [("gocryptfs.conf", 0o400), ("gocryptfs.diriv", 0o444)] {
        assert_eq!(fs::stat(home.volume().join(name)).permissions().mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(fs::names(home.volume()).len(), 2);
    let home = Home::new();
    home.key("init --deterministic-names --scrypt-cost 10 --passfile OLD VOLUME").done();
    assert_eq!(fs::names(home.volume()), ["gocryptfs.conf"]);
}

#[test]
fn the_configuration_may_be_elsewhere() {
    let home = Home::new();
    home.key("init --scrypt-cost 10 --conf @docs.conf --passfile OLD VOLUME").done();
    assert_eq!(fs::names(home.volume()), ["gocryptfs.diriv"]);
    home.key("test --conf @docs.conf --passfile OLD").done();
    std::os::unix::fs::symlink("docs.conf", home.path("link")).expect("link");
    home.key("passwd --conf @link --passfile OLD --new-passfile NEW").done();
    home.key("test --conf @docs.conf --passfile NEW").done();
    assert!(std::fs::symlink_metadata(home.path("link")).expect("link").is_symlink());
    home.key("info --conf @docs.conf").done();
}

#[test]
fn what_does_not_go_together_is_wrong_usage() {
    let home = Home::new();
    for arguments in [
        "init --passfile OLD",
        "init --reverse --cipher gcm --passfile OLD VOLUME",
        "init --plaintext-names --deterministic-names --passfile OLD VOLUME",
        "init --long-name-max 61 --passfile OLD VOLUME",
        "init --scrypt-cost 9 --passfile OLD VOLUME",
        "init --cipher des --passfile OLD VOLUME",
        "test --passfile OLD",
        "passwd --unchecked --passfile OLD VOLUME",
    ] {
        let ran = home.key(arguments);
        ran.refused(2, "");
        assert!(fs::names(home.volume()).is_empty(), "{arguments}");
    }
}

#[test]
fn what_is_no_conf_ends_with_78() {
    let home = Home::with_volume();
    let path = home.volume().join("gocryptfs.conf");
    let conf = fs::get(&path);
    let put = |text: String| {
        std::fs::remove_file(&path).expect("removed");
        fs::put(&path, text);
    };
    for (text, says) in [
        (String::new(), "empty"),
        ("nonsense".into(), "not a gocryptfs configuration"),
        (conf.replace("\"Raw64\"", "\"Raw64\", \"NewThing\""), "NewThing"),
        (conf.replace("\"Version\": 2", "\"Version\": 9"), "version 9"),
        (conf.replace("1024", "1000"), "power of two"),
        (conf.replace("1024", "1099511627776"), "2^40"),
        (conf.replace("\"Raw64\"", "\"Raw64\", \"FIDO2\""), "--master-key"),
    ] {
        put(text);
        home.key("test --passfile OLD VOLUME").refused(78, says);
    }
    put(conf);
    home.key("test --passfile OLD VOLUME").done();
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("directory");
    home.key("test --passfile OLD VOLUME").refused(78, "is no file");
}

#[test]
fn full_disks_and_directories_without_rights_keep_the_volume_as_it_was() {
    let Some(disk) = LoopFs::new("tmpfs", 1) else { return };
    let home = Home::new();
    let volume = disk.path().join("volume");
    std::fs::create_dir(&volume).expect("directory");
    let key = |arguments: &str| {
        let mut command = home.command(arguments);
        Ran::of(&wait::output(command.arg(&volume)))
    };
    key("init --scrypt-cost 10 --passfile OLD").done();
    fs::put(disk.path().join("ballast"), vec![0; (1 << 20) - 8192]);
    let _full = std::fs::write(disk.path().join("rest"), vec![0; 65536]);
    let ran = key("passwd --passfile OLD --new-passfile NEW");
    ran.refused(1, "No space left");
    key("test --passfile OLD").done();
    assert_eq!(fs::names(&volume).len(), 2, "no scratch file stays");
}

/// Another program's filesystem, unmounted when dropped.
struct Odd {
    point: PathBuf,
    volume: PathBuf,
}

impl Odd {
    /// Mounts what `commands` make of `STORE` and `POINT`; reports a skip and returns `None` where it cannot.
    fn new(home: &Home, program: &str, commands: &[&str]) -> Option<Odd> {
        need::programs([program]).filter(|_| need::fuse())?;
        let (store, point) = (home.path("store"), home.path("point"));
        for dir in [&store, &point] {
            std::fs::create_dir(dir).expect("directory");
        }
        for words in commands {
            let words = words.split(' ').map(|word| match word {
                "STORE" => store.clone().into_os_string(),
                "POINT" => point.clone().into_os_string(),
                word => word.into(),
            });
            let mut command = Command::new(program);
            // Its background process must not hold a pipe that is waited for.
            command.args(words).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            assert!(command.stdin(std::process::Stdio::null()).status().expect("it runs").success(), "{program}");
        }
        let odd = Odd { volume: point.join("volume"), point };
        let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&fs::stat(path));
        wait::until("it is mounted", || (device(&odd.point) != device(home.dir.path())).then_some(()));
        std::fs::create_dir(&odd.volume).expect("directory");
        Some(odd)
    }

    fn init(&self, home: &Home, arguments: &str) -> Ran {
        let arguments = format!("init --scrypt-cost 10 --passfile OLD {arguments}");
        Ran::of(&wait::output(home.command(&arguments).arg(&self.volume)))
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        let _unmounted = Command::new("fusermount3").args(["-u", "-z"]).arg(&self.point).status();
    }
}

#[test]
fn a_filesystem_without_capitals_is_refused() {
    let home = Home::new();
    let commands = [
        "create --format 2 -r 1 --pbkdf pkcs5-pbkdf2-hmac-sha256 --pass x STORE",
        "mount -b --pass x --normalization casefold STORE POINT",
    ];
    let Some(odd) = Odd::new(&home, "securefs", &commands) else { return };
    odd.init(&home, "").refused(1, "capitals");
    assert!(fs::names(&odd.volume).is_empty());
    odd.init(&home, "--plaintext-names").done();
}

#[test]
fn a_filesystem_with_short_names_is_refused_with_the_option_that_helps() {
    let home = Home::new();
    let Some(odd) = Odd::new(&home, "encfs", &["--standard --extpass=hostname STORE POINT"]) else { return };
    odd.init(&home, "").refused(1, "--long-name-max 175");
    assert!(fs::names(&odd.volume).is_empty());
    odd.init(&home, "--long-name-max 175").done();
    drop(odd);
}
