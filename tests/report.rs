//! `tierfs report` on real trees: mounted and not, as root and as an ordinary user, and its page in
//! a real browser.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::fs::{put, set_times, stat};
use common::mount::{Setup, program, spec, temp_dir};
use common::need;
use common::user::User;
use serde_json::Value;

const DAY: i64 = 86_400;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap()
}

/// A file of so many bytes and days since access and change.
fn aged(path: impl AsRef<Path>, bytes: usize, atime: i64, mtime: i64) {
    put(&path, vec![b'x'; bytes]);
    // A second more: times have a fraction that the rest of this second may lack.
    set_times(path, now() - atime * DAY - 1, now() - mtime * DAY - 1);
}

/// Two tiers with five files: one young, one read lately, two old, one on the secondary.
fn fill(roots: &[PathBuf]) {
    aged(roots[0].join("plans/young.txt"), 5000, 1, 1);
    aged(roots[0].join("plans/read.TXT"), 6000, 2, 800);
    aged(roots[0].join("scans/old.pdf"), 70_000, 500, 500);
    aged(roots[0].join("scans/2019/older.pdf"), 9000, 2500, 2500);
    aged(roots[1].join("scans/2019/moved.pdf"), 8000, 2500, 2500);
    put(roots[0].join(".tierfs/private"), "not counted");
}

fn tiers() -> (tempfile::TempDir, Vec<PathBuf>) {
    let home = temp_dir();
    let roots: Vec<PathBuf> = ["fast", "slow"].iter().map(|name| home.path().join(name)).collect();
    roots.iter().for_each(|root| std::fs::create_dir(root).unwrap());
    (home, roots)
}

fn report(arguments: &[&std::ffi::OsStr]) -> Output {
    Command::new(program()).arg("report").args(arguments).env_remove("TIERFS_LOG").output().unwrap()
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn json(what: &std::ffi::OsStr, more: &[&str]) -> Value {
    let mut arguments = vec![what, "--json".as_ref()];
    arguments.extend(more.iter().map(|word| std::ffi::OsStr::new(*word)));
    let output = report(&arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `what` frees: threshold and files.
fn freed(value: &Value) -> Vec<(&str, u64)> {
    let all = value["would_free"].as_array().unwrap().iter();
    all.map(|one| (one["older_than"].as_str().unwrap(), one["files"].as_u64().unwrap())).collect()
}

fn allocated(path: impl AsRef<Path>) -> u64 {
    stat(path).blocks() * 512
}

#[test]
fn it_tells_what_each_age_would_free() {
    let (_home, roots) = tiers();
    fill(&roots);
    let union = spec(&roots);
    let value = json(&union, &[]);
    assert_eq!(value["total"]["files"], 5);
    assert_eq!(value["total"]["bytes"], 98_000);
    assert_eq!(freed(&value), [("30d", 2), ("90d", 2), ("1y", 2), ("2y", 1), ("5y", 1)]);
    let old = allocated(roots[0].join("scans/old.pdf")) + allocated(roots[0].join("scans/2019/older.pdf"));
    assert_eq!(value["would_free"][2]["allocated"], old);
    let dirs: Vec<&str> = value["by_dir"].as_array().unwrap().iter().map(|dir| dir["name"].as_str().unwrap()).collect();
    assert_eq!(dirs, ["/scans", "/plans"]);
    // The age that counts is the one that was asked for.
    assert_eq!(freed(&json(&union, &["--age-by", "mtime", "--buckets", "1y,2y"])), [("1y", 3), ("2y", 2)]);
    assert_eq!(freed(&json(&union, &["--age-by", "atime", "--buckets", "1d,1y"])), [("1d", 4), ("1y", 2)]);
    let deep = json(&union, &["--depth", "2"]);
    let deep: Vec<&str> = deep["by_dir"].as_array().unwrap().iter().map(|dir| dir["name"].as_str().unwrap()).collect();
    assert_eq!(deep, ["/scans", "/scans/2019", "/plans"]);
}

#[test]
fn a_pipe_gets_plain_text_and_tables() {
    let (_home, roots) = tiers();
    fill(&roots);
    let union = spec(&roots);
    let (out, err) = words(&report(&[&union]));
    assert_eq!(err, "");
    assert!(!out.contains('\u{1b}') && out.is_ascii(), "{out}");
    let row = out.lines().find(|line| line.starts_with("1 year ")).unwrap();
    assert!(row.contains(" 2 ") && row.ends_with('#'), "{row}");
    let (csv, _) = words(&report(&[&union, "--csv".as_ref(), "--by".as_ref(), "type".as_ref()]));
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "type,files,bytes,allocated,frees_30d,frees_90d,frees_1y,frees_2y,frees_5y");
    assert!(lines[1].starts_with("pdf,3,87000,") && lines[2].starts_with("txt,2,11000,"), "{csv}");
}

#[test]
fn pins_hold_files_back_and_nothing_gets_a_new_access_time() {
    let (_home, roots) = tiers();
    fill(&roots);
    common::fs::set_xattr(roots[0].join("scans/2019"), "user.tierfs.pin", b"primary");
    let paths = ["", "scans", "scans/2019", "scans/old.pdf", "plans"].map(|path| roots[0].join(path));
    for path in &paths {
        set_times(path, now() - 500 * DAY, now() - 400 * DAY);
    }
    let before = paths.clone().map(|path| (stat(&path).atime(), stat(&path).atime_nsec(), stat(&path).ctime_nsec()));
    let value = json(&spec(&roots), &[]);
    assert_eq!(freed(&value), [("30d", 1), ("90d", 1), ("1y", 1), ("2y", 0), ("5y", 0)]);
    assert_eq!(value["pinned"]["files"], 1);
    let after = paths.map(|path| (stat(&path).atime(), stat(&path).atime_nsec(), stat(&path).ctime_nsec()));
    assert_eq!(before, after);
    // A pin of the file itself counts unless nobody looks.
    common::fs::set_xattr(roots[0].join("scans/old.pdf"), "user.tierfs.pin", b"0");
    assert_eq!(json(&spec(&roots), &[])["pinned"]["files"], 2);
    assert_eq!(json(&spec(&roots), &["--quick"])["pinned"]["files"], 1);
}

#[test]
fn a_mount_is_named_by_its_point_or_a_path_in_it() {
    let Some(mount) = Setup::new().seed(fill).mount() else { return };
    let root = mount.root();
    let value = json(root.as_os_str(), &[]);
    assert_eq!((value["total"]["files"].as_u64(), freed(&value)[2]), (Some(5), ("1y", 2)));
    assert_eq!(value["tiers"][1]["path"], mount.tier(1, "").to_str().unwrap().trim_end_matches('/'));
    let below = json(mount.path("scans").as_os_str(), &[]);
    assert_eq!(below["total"]["files"], 3);
    assert_eq!(below["by_dir"].as_array().unwrap().len(), 2, "scans itself, and scans/2019");
    let file = json(mount.path("plans/read.TXT").as_os_str(), &[]);
    assert_eq!((file["total"]["files"].as_u64(), file["total"]["bytes"].as_u64()), (Some(1), Some(6000)));
    mount.unmount();
}

#[test]
fn a_configuration_file_names_tiers_and_mistakes_are_told() {
    let (home, roots) = tiers();
    fill(&roots);
    let file = home.path().join("docs.yaml");
    let path = |rank: usize| roots[rank].display();
    put(&file, format!("version: 1\ntiers:\n  - path: {}\n  - path: {}\n", path(0), path(1)));
    assert_eq!(json(file.as_os_str(), &[])["total"]["files"], 5);
    put(&file, "version: 1\ntires: []\n");
    let output = report(&[file.as_os_str()]);
    assert_eq!((output.status.code(), words(&output).1.lines().count()), (Some(78), 1));
    let output = report(&[home.path().as_os_str()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).1.contains("is not in a mounted tierfs"), "{output:?}");
    for (arguments, says) in [(["--buckets", "1y,30d"], "must rise"), (["--buckets", "1m"], "1mo")] {
        let output = Command::new(program()).arg("report").arg(spec(&roots)).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(words(&output).1.contains(says), "{output:?}");
    }
    let gone = [roots[0].clone(), home.path().join("gone")];
    let output = report(&[&spec(&gone)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).1.ends_with("gone: No such file or directory\n"), "{output:?}");
}

/// A disk that is not mounted was counted as an empty tier.
#[test]
fn a_tier_whose_disk_is_not_mounted_is_not_counted_as_empty() {
    let (home, roots) = tiers();
    fill(&roots);
    let init = Command::new(program()).arg("init").arg(spec(&roots)).output().unwrap();
    assert!(init.status.success(), "{init:?}");
    let file = home.path().join("docs.yaml");
    put(&file, &init.stdout);
    let given = home.path().join("plain.yaml");
    let path = |rank: usize| roots[rank].display();
    put(&given, format!("version: 1\ntiers:\n  - path: {}\n  - path: {}\n", path(0), path(1)));
    assert_eq!(json(file.as_os_str(), &[])["total"]["files"], 5);
    std::fs::rename(&roots[1], home.path().join("disk")).unwrap();
    std::fs::create_dir(&roots[1]).unwrap();
    for union in [file.as_os_str(), given.as_os_str(), &spec(&roots)] {
        let output = report(&[union]);
        let (out, err) = words(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(78), ""), "{err}");
        assert_eq!(err, format!("tierfs: {} has no .tierfs/marker: is its disk mounted?\n", path(1)));
    }
    std::fs::remove_dir(&roots[1]).unwrap();
    let output = report(&[file.as_os_str()]);
    assert_eq!((output.status.code(), words(&output).1.contains("cannot be opened")), (Some(78), true), "{output:?}");
}

#[test]
fn what_a_user_may_not_read_is_told() {
    let Some([user, _]) = User::two() else { return };
    let (home, roots) = tiers();
    fill(&roots);
    let mode = |path: &str, mode| {
        std::fs::set_permissions(roots[0].join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("scans/2019", 0o700);
    mode("plans", 0o744);
    let copy = home.path().join("tierfs");
    common::fs::copy_program(program(), &copy);
    let run = || user.command(&copy).arg("report").arg(spec(&roots)).args(["--csv"]).output().unwrap();
    let output = run();
    let (out, err) = words(&output);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.starts_with("tierfs: 2 paths could not be read") && err.ends_with("Permission denied\n"), "{err}");
    assert_eq!(err.lines().count(), 1);
    assert!(out.contains("\nprimary,31557600,63115200,1,70000,"), "what can be read is told: {out}");
    mode("scans/2019", 0o755);
    mode("plans", 0o755);
    assert_eq!(run().status.code(), Some(0));
}

/// What chromium makes of a page: its arguments, then the file. `None`, and a skip, without it.
///
/// On a busy machine a browser may come to no end, or end before it has shown anything: whoever asks says what is whole,
/// and what is not is asked for again.
fn chromium(home: &Path, arguments: &[&str], page: &Path, whole: impl Fn(&str) -> bool) -> Option<String> {
    let [chromium] = need::programs(["chromium"])?;
    let mut last = None;
    for _ in 0..4 {
        let profile = tempfile::tempdir_in(home).unwrap();
        let output = Command::new("timeout")
            .args(["--signal=KILL", "120"])
            .arg(&chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1600"])
            .args(["--disable-dev-shm-usage", "--virtual-time-budget=5000"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(arguments)
            .arg(format!("file://{}", page.display()))
            .env("HOME", home)
            .output()
            .unwrap();
        let told = words(&output).0;
        if output.status.success() && whole(&told) {
            return Some(told);
        }
        eprintln!("once more: {output:?}");
        last = Some(output);
        // What the browser has started may still write there.
        let _kept = profile.keep();
    }
    panic!("{last:?}");
}

/// A picture of a page. Reports a skip and returns `None` without a browser.
fn screenshot(home: &Path, page: &Path, picture: &Path) -> Option<()> {
    let argument = format!("--screenshot={}", picture.display());
    let whole = |_: &str| picture.metadata().is_ok_and(|found| found.len() > 0);
    chromium(home, &[&argument], page, whole).map(drop)
}

/// Lets the browser read a picture: how many pixels there are of each of `colours` (as `r,g,b`),
/// and how many colours in all.
fn count_pixels(home: &Path, picture: &Path, colours: &[&str]) -> Option<Vec<u64>> {
    let encoded = Command::new("base64").arg("-w0").arg(picture).output().unwrap();
    let reader = home.join("reader.html");
    let wanted = colours.iter().map(|colour| format!("'{colour}'")).collect::<Vec<_>>().join(",");
    let script = "const i=new Image();i.onload=()=>{const c=document.createElement('canvas');\
        c.width=i.width;c.height=i.height;const x=c.getContext('2d');x.drawImage(i,0,0);\
        const d=x.getImageData(0,0,c.width,c.height).data;const n=new Map();\
        for(let p=0;p<d.length;p+=4){const k=d[p]+','+d[p+1]+','+d[p+2];n.set(k,(n.get(k)||0)+1);}\
        document.title=WANTED.map(w=>n.get(w)||0).concat(n.size).join(' ');};i.src=PICTURE;";
    let source = format!("'data:image/png;base64,{}'", String::from_utf8(encoded.stdout).unwrap());
    let script = script.replace("WANTED", &format!("[{wanted}]")).replace("PICTURE", &source);
    put(&reader, format!("<html><head><title>none</title></head><body><script>{script}</script></body></html>"));
    let told = chromium(home, &["--dump-dom"], &reader, |told| !told.contains("<title>none</title>"))?;
    let title = told.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
    Some(title.split(' ').map(|number| number.parse().expect("a number of pixels")).collect())
}

#[test]
fn a_browser_shows_the_page_and_asks_nobody_for_anything() {
    let (home, roots) = tiers();
    fill(&roots);
    aged(roots[0].join("<b>bold</b> & co/x.pdf"), 4000, 40, 40);
    let page = home.path().join("report.html");
    let output = report(&[&spec(&roots), "--html".as_ref(), page.as_os_str()]);
    assert!(output.status.success(), "{output:?}");
    assert!(words(&output).0.contains("report.html"));
    let source = common::fs::get(&page);
    for way_out in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<iframe", "//cdn"] {
        assert!(!source.contains(way_out), "the page names {way_out}");
    }
    assert!(source.contains("default-src 'none'"));
    let Some(dom) = chromium(home.path(), &["--dump-dom"], &page, |told| told.contains("</html>")) else { return };
    for says in [
        "Storage report: ",
        "What moving old files down would free",
        "How old the files are",
        ">1 year</td>",
        ">5 years</td>",
        "By directory",
        "<td>/scans</td>",
        "<td>/&lt;b&gt;bold&lt;</td>",
        "<td>.pdf</td>",
        "By owner",
        "<polyline class=\"edge\"",
    ] {
        assert!(dom.contains(says), "{says}");
    }
    let picture = home.path().join("page.png");
    screenshot(home.path(), &page, &picture);
    // The colours of `src/report/page.css`: what would be free, files of one to two years, text.
    let pixels = count_pixels(home.path(), &picture, &["15,111,184", "59,130,196", "28,39,51"]).unwrap();
    assert!(pixels[0] > 10_000, "the bars of what would be free: {pixels:?}");
    assert!(pixels[1] > 2000, "the bars of ages: {pixels:?}");
    assert!(pixels[2] > 500 && pixels[3] > 100, "text: {pixels:?}");
}

#[test]
fn an_empty_tree_gives_a_page_that_says_so() {
    let (home, roots) = tiers();
    let page = home.path().join("empty.html");
    let output = report(&[&spec(&roots), "--html".as_ref(), page.as_os_str()]);
    assert!(output.status.success(), "{output:?}");
    let Some(dom) = chromium(home.path(), &["--dump-dom"], &page, |told| told.contains("</html>")) else { return };
    assert!(dom.contains("There are no files here") && !dom.contains("<table"), "{dom}");
    let picture = home.path().join("empty.png");
    screenshot(home.path(), &page, &picture);
    let pixels = count_pixels(home.path(), &picture, &["28,39,51"]).unwrap();
    assert!(pixels[0] > 100, "text: {pixels:?}");
}
