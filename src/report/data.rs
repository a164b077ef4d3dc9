//! The report for programs: JSON and CSV. Sizes are bytes, ages seconds.

use serde_json::{Value, json};

use super::{By, Group, Labels, Report, Sums, words};

/// One JSON object with everything that was counted.
pub fn json(report: &Report, labels: &Labels) -> Value {
    let thresholds = &report.spec.thresholds;
    let tiers = labels.tiers.iter().zip(&report.tiers).map(|(tier, ages)| {
        let space = tier.used_of().map(|(used, all)| json!({"used": used, "total": all}));
        let ages: Vec<Value> = (0..).zip(ages).map(|(bucket, sums)| aged(report, bucket, *sums)).collect();
        json!({"tier": tier.name, "path": tier.path, "filesystem": space, "ages": ages})
    });
    let freed = (0..thresholds.len()).map(|at| freed(report, &report.all, at));
    json!({
        "subject": labels.subject,
        "time": labels.made,
        "age_by": labels.age_by,
        "total": sums(report.all.total()),
        "tiers": tiers.collect::<Vec<_>>(),
        "would_free": freed.collect::<Vec<_>>(),
        "by_dir": grouped(report, &report.dirs, words::dir),
        "by_type": grouped(report, &report.types, String::clone),
        "by_owner": grouped(report, &report.owners, |uid| labels.owner(*uid)),
        "pinned": sums(report.pinned),
        "linked_outside": sums(report.linked_outside),
        "unread": labels.unread,
    })
}

fn sums(sums: Sums) -> Value {
    json!({"files": sums.files, "bytes": sums.bytes, "allocated": sums.allocated})
}

fn aged(report: &Report, bucket: usize, counted: Sums) -> Value {
    let thresholds = &report.spec.thresholds;
    let mut value = sums(counted);
    value["from"] = json!(bucket.checked_sub(1).map_or(0, |at| thresholds[at].as_secs()));
    value["to"] = json!(thresholds.get(bucket).map(|to| to.as_secs()));
    value
}

fn freed(report: &Report, group: &Group, at: usize) -> Value {
    let threshold = report.spec.thresholds[at];
    let mut value = sums(group.freed(at));
    value["older_than"] = json!(words::short_age(threshold));
    value["seconds"] = json!(threshold.as_secs());
    value
}

fn grouped<K>(report: &Report, groups: &[(K, Group)], show: impl Fn(&K) -> String) -> Vec<Value> {
    let one = |(key, group): &(K, Group)| {
        let mut value = sums(group.total());
        value["name"] = json!(show(key));
        value["ages"] = (0..).zip(&group.ages).map(|(bucket, sums)| aged(report, bucket, *sums)).collect();
        value["would_free"] = (0..report.spec.thresholds.len()).map(|at| freed(report, group, at)).collect();
        value
    };
    groups.iter().map(one).collect()
}

/// A table with a line of titles: tiers by age, or groups with what each threshold would free.
pub fn csv(report: &Report, labels: &Labels, by: By) -> String {
    let rows = match by {
        By::Age => by_age(report, labels),
        By::Dir => by_group(report, "directory", &report.dirs, words::dir),
        By::Type => by_group(report, "type", &report.types, String::clone),
        By::Owner => by_group(report, "owner", &report.owners, |uid| labels.owner(*uid)),
    };
    rows.iter().map(|row| row.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",") + "\n").collect()
}

fn numbers(sums: Sums) -> [String; 3] {
    [sums.files, sums.bytes, sums.allocated].map(|number| number.to_string())
}

fn by_age(report: &Report, labels: &Labels) -> Vec<Vec<String>> {
    let titles = ["tier", "from_seconds", "to_seconds", "files", "bytes", "allocated"];
    let mut rows = vec![titles.map(String::from).to_vec()];
    let thresholds = &report.spec.thresholds;
    for (tier, ages) in labels.tiers.iter().zip(&report.tiers) {
        for (bucket, sums) in ages.iter().enumerate() {
            let from = bucket.checked_sub(1).map_or(0, |at| thresholds[at].as_secs());
            let to = thresholds.get(bucket).map_or_else(String::new, |to| to.as_secs().to_string());
            let mut row = vec![tier.name.clone(), from.to_string(), to];
            row.extend(numbers(*sums));
            rows.push(row);
        }
    }
    rows
}

fn by_group<K>(report: &Report, title: &str, groups: &[(K, Group)], show: impl Fn(&K) -> String) -> Vec<Vec<String>> {
    let mut titles: Vec<String> = [title, "files", "bytes", "allocated"].map(String::from).to_vec();
    titles.extend(report.spec.thresholds.iter().map(|age| format!("frees_{}", words::short_age(*age))));
    let mut rows = vec![titles];
    for (key, group) in groups {
        let mut row = vec![show(key)];
        row.extend(numbers(group.total()));
        row.extend((0..report.spec.thresholds.len()).map(|at| group.freed(at).allocated.to_string()));
        rows.push(row);
    }
    rows
}

/// A cell as RFC 4180 has it. One that a spreadsheet would take for a formula is made text.
fn quoted(cell: &str) -> String {
    let cell = if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}
