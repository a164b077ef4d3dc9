//! Room on the tiers, and what the configuration expects of it.

use std::path::Path;

use crate::config::MinFree;
use crate::types::units::show_size;

use super::facts::{Tier, Union};
use super::{Book, Finding, answered, word};

/// Free inodes, in hundredths of all, below which files soon cannot be made.
const INODES_MIN: u64 = 2;

/// Judges the room on the tiers of one union.
pub fn judge(union: &Union) -> Vec<Finding> {
    let Some(config) = &union.config else { return Vec::new() };
    let mut book = Book::new(&union.name);
    let count = config.tiers.len();
    for (rank, path, tier) in answered(union) {
        if tier.bytes.0 == 0 {
            // A filesystem that does not tell, as some of FUSE.
            continue;
        }
        let min_free = config.tiers.get(rank).map_or(MinFree::Bytes(0), |tier| tier.min_free);
        bytes(&mut book, path, tier, min_free, rank + 1 == count);
        inodes(&mut book, path, tier);
        watermark(&mut book, path, tier, min_free, union, rank);
    }
    shared(&mut book, union);
    book.close()
}

fn kept(min_free: MinFree, tier: &Tier) -> u64 {
    match min_free {
        MinFree::Bytes(bytes) => bytes,
        MinFree::Percent(percent) => tier.bytes.0 / 100 * u64::from(percent),
    }
}

fn bytes(book: &mut Book, path: &Path, tier: &Tier, min_free: MinFree, is_last: bool) {
    const CHECK: &str = "space";
    let (free, kept) = (tier.bytes.1, kept(min_free, tier));
    let found = format!("{} has {} free of {}", path.display(), show_size(free), show_size(tier.bytes.0));
    if free == 0 {
        let todo = if is_last {
            "make room: df and du on it, or a larger disk".to_owned()
        } else {
            "move files down now: tierfs migrate --older-than 30d, or watermarks in the policy".to_owned()
        };
        book.trouble(CHECK, format!("{found}: it is full"), todo);
    } else if free < kept && is_last {
        let found = format!("{found}, less than its min_free of {}", show_size(kept));
        book.warning(CHECK, found, "make room there, or a larger disk: no other tier takes over");
    } else if free < kept {
        let found = format!("{found}, less than its min_free of {}: new files go to the next tier", show_size(kept));
        book.warning(CHECK, found, "move files down: tierfs migrate --older-than 30d, or watermarks in the policy");
    } else {
        book.fine(CHECK, found);
    }
}

fn inodes(book: &mut Book, path: &Path, tier: &Tier) {
    const CHECK: &str = "inodes";
    let (all, free) = tier.inodes;
    if all == 0 {
        return;
    }
    let found = format!("{} has {free} free inodes of {all}", path.display());
    let todo = "remove or pack small files (du --inodes -d 2 tells where they are); ext4 cannot be given more";
    if free == 0 {
        book.trouble(CHECK, format!("{found}: no file can be made"), todo);
    } else if u128::from(free) * 100 < u128::from(all) * u128::from(INODES_MIN) {
        book.warning(CHECK, found, todo);
    } else {
        book.fine(CHECK, found);
    }
}

/// New files go to the next tier as soon as less than `min_free` is free; a watermark that begins only later
/// never keeps them on this one.
fn watermark(book: &mut Book, path: &Path, tier: &Tier, min_free: MinFree, union: &Union, rank: usize) {
    const CHECK: &str = "watermark";
    let policy = union.policy.as_ref().and_then(|(_, policy)| policy.as_ref().ok());
    let Some(marks) = policy.and_then(|policy| policy.watermarks.iter().find(|marks| marks.tier.index() == rank))
    else {
        return;
    };
    let begins = tier.bytes.0 / 100 * u64::from(100_u8.saturating_sub(marks.high));
    let kept = kept(min_free, tier);
    let path = path.display();
    if union.config.as_ref().is_some_and(|config| config.options.spill) && kept > begins {
        book.warning(
            CHECK,
            format!(
                "{path} keeps {} free (min_free), but its watermark begins only at {} free: new files go to the slow \
                 tier first",
                show_size(kept),
                show_size(begins)
            ),
            format!(
                "set `high` below {}, or a smaller min_free",
                100 - (kept.saturating_mul(100) / tier.bytes.0).min(99)
            ),
        );
    } else {
        book.fine(CHECK, format!("the watermark of {path} begins before its min_free"));
    }
}

fn shared(book: &mut Book, union: &Union) {
    const CHECK: &str = "one-filesystem";
    let tiers: Vec<_> = answered(union).collect();
    for (index, (_, path, tier)) in tiers.iter().enumerate() {
        let twin = tiers.iter().take(index).find(|(_, _, other)| other.filesystem == tier.filesystem);
        match twin {
            Some((_, other, _)) => book.hint(
                CHECK,
                format!("{} and {} are on one filesystem: moving files frees nothing", other.display(), path.display()),
                format!("put {} on another disk; df counts the space once, watermarks do not end", word(path)),
            ),
            None if index > 0 => book.fine(CHECK, format!("{} has a filesystem of its own", path.display())),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;
    use crate::doctor::facts::Asked;
    use crate::policy::load;

    const GIB: u64 = 1 << 30;

    fn tier(disk: u64, free: u64, inodes: (u64, u64)) -> Asked<Tier> {
        Asked::Told(Tier { filesystem: (disk, disk), bytes: (100 * GIB, free * GIB), inodes, ..Tier::default() })
    }

    fn told(min_free: &str, tiers: [Asked<Tier>; 2]) -> Vec<(&'static str, Level)> {
        let text = format!(
            "version: 1\nmountpoint: /m\nprimary: {{path: /a, min_free: {min_free}}}\nsecondary: {{path: /b, min_free: 1GiB}}\n"
        );
        let config = crate::config::check::finish(crate::config::load::parse(&text).unwrap()).unwrap();
        let policy =
            load::parse("version: 1\nwatermarks: [{tier: primary, high: 90%, low: 80%}]\n", &|_| None).unwrap();
        let policy = Some(("p.yaml".into(), Ok(policy)));
        let union = Union { config: Some(config), policy, tiers: tiers.into(), ..Union::default() };
        judge(&union).iter().filter(|it| it.level > Level::Fine).map(|it| (it.check, it.level)).collect()
    }

    #[test]
    fn room_is_told_where_it_is_short() {
        let good = || tier(2, 50, (0, 0));
        assert_eq!(told("5%", [tier(1, 50, (1000, 500)), good()]), []);
        for (min_free, tiers, expected) in [
            ("5%", [tier(1, 4, (0, 0)), good()], ("space", Level::Warning)),
            ("5GiB", [tier(1, 4, (0, 0)), good()], ("space", Level::Warning)),
            ("0", [tier(1, 0, (0, 0)), good()], ("space", Level::Trouble)),
            ("5%", [tier(1, 50, (0, 0)), tier(2, 0, (0, 0))], ("space", Level::Trouble)),
            ("5%", [tier(1, 50, (1000, 10)), good()], ("inodes", Level::Warning)),
            ("5%", [tier(1, 50, (1000, 0)), good()], ("inodes", Level::Trouble)),
            ("20%", [tier(1, 50, (0, 0)), good()], ("watermark", Level::Warning)),
            ("5%", [tier(2, 50, (0, 0)), good()], ("one-filesystem", Level::Hint)),
        ] {
            assert_eq!(told(min_free, tiers.clone()), [expected], "{min_free} {tiers:?}");
        }
        let mute = Asked::Told(Tier::default());
        assert_eq!(told("5%", [tier(1, 50, (0, 0)), mute]), []);
    }
}
