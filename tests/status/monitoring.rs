//! The dashboard and the alert rules in `packaging/monitoring`: they name metrics that a mount tells.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::mount::Setup;
use crate::common::wait;

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/monitoring").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// All words of a text that begin as our metrics do.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tierfs_")).map(String::from).collect()
}

/// What a mount tells: each family, and the three series of a histogram.
fn told(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
    }
    names
}

fn page() -> Option<String> {
    let setup = Setup::new();
    let path = setup.home().join("tierfs.prom");
    let mount = setup.option(&format!("metrics_textfile={},metrics_every=1s", path.display())).mount()?;
    let page = wait::until("the metrics are written", || std::fs::read_to_string(Path::new(&path)).ok());
    mount.unmount();
    Some(page)
}

#[test]
fn rules_and_dashboard_name_metrics_that_are_told() {
    let Some(page) = page() else { return };
    let told = told(&page);
    assert!(told.len() > 20, "{told:?}");
    for name in ["tierfs-alerts.yaml", "tierfs-dashboard.json"] {
        let named = metrics(&file(name));
        let unknown: Vec<_> = named.difference(&told).collect();
        assert!(unknown.is_empty() && named.len() > 5, "{name}: {unknown:?} is told by no mount");
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    let rules: serde_json::Value = serde_yaml::from_str(&file("tierfs-alerts.yaml")).unwrap();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 8);
    for rule in rules {
        let text = |value: &serde_json::Value| value.as_str().map(str::trim).unwrap_or_default().to_owned();
        let name = text(&rule["alert"]);
        assert!(name.starts_with("Tierfs"), "{rule}");
        assert!(!text(&rule["expr"]).is_empty(), "{name}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let (summary, description) = (text(&rule["annotations"]["summary"]), text(&rule["annotations"]["description"]));
        assert!(!summary.is_empty() && description.ends_with(['.', '?']), "{name}");
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let board: serde_json::Value = serde_json::from_str(&file("tierfs-dashboard.json")).unwrap();
    let variables = board["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance", "mountpoint", "tier"]);
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id twice: {}", panel["title"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            assert!(target["expr"].as_str().unwrap().contains("mountpoint=~\"$mountpoint\""), "{}", panel["title"]);
        }
    }
    assert!(ids.len() > 15);
}
