//! The format, its ways to break, and the table of verdicts.

use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::verify::{self, Found, Verdict, What, verify};
use super::*;
use crate::crypt::features::Cipher;
use crate::tier::place::{Place, Root};
use crate::types::ids::Ranks;

fn marker(union: u128, rank: u8, tiers: u8) -> Marker {
    let tier = Id(union * 100 + u128::from(rank));
    Marker {
        union: Id(union),
        tier,
        rank: Rank(rank),
        tiers,
        state: State::Member,
        stamps: false,
        given: None,
        volume: None,
    }
}

fn found(what: impl IntoIterator<Item = What>) -> Vec<Found> {
    let tiers = what.into_iter().enumerate();
    tiers.map(|(rank, what)| Found { path: format!("/t{rank}").into(), what }).collect()
}

fn is(marker: Marker) -> What {
    What::Marker(marker)
}

fn fresh(marker: Marker) -> What {
    What::Marker(Marker { state: State::New, ..marker })
}

fn judged(what: impl IntoIterator<Item = What>) -> Verdict {
    verify(&found(what), &[])
}

fn missing(ranks: &[u8]) -> Verdict {
    Verdict::Missing(ranks.iter().fold(Ranks::NONE, |all, rank| all.with(Rank(*rank))))
}

#[test]
fn tiers_without_any_marker_are_fresh() {
    assert_eq!(judged([What::NoMarker]), Verdict::Fresh);
    assert_eq!(judged([What::NoMarker, What::NoMarker]), Verdict::Fresh);
}

#[test]
fn all_markers_in_order_are_good() {
    assert_eq!(judged([is(marker(1, 0, 1))]), Verdict::Good);
    assert_eq!(judged([is(marker(1, 0, 2)), is(marker(1, 1, 2))]), Verdict::Good);
}

#[test]
fn a_missing_tier_is_never_an_empty_one() {
    assert_eq!(judged([is(marker(1, 0, 2)), What::NoMarker]), missing(&[1]));
    assert_eq!(judged([What::NoMarker, is(marker(1, 1, 2))]), missing(&[0]));
    assert_eq!(judged([is(marker(1, 0, 2)), What::NoRoot(Errno::ENOENT)]), missing(&[1]));
    let three = [What::NoMarker, is(marker(1, 1, 3)), What::NoRoot(Errno::EIO)];
    assert_eq!(judged(three), missing(&[0, 2]));
}

#[test]
fn a_root_that_is_gone_is_missing_even_without_markers() {
    assert_eq!(judged([What::NoMarker, What::NoRoot(Errno::ENOENT)]), missing(&[1]));
    assert_eq!(judged([What::NoRoot(Errno::ENOENT), What::NoRoot(Errno::EIO)]), missing(&[0, 1]));
}

#[test]
fn an_id_in_the_configuration_demands_its_marker() {
    let ids = [Some(Id(100)), Some(Id(101))];
    assert_eq!(verify(&found([What::NoMarker, What::NoMarker]), &ids), missing(&[0, 1]));
    let tiers = [is(marker(1, 0, 2)), is(marker(1, 1, 2))];
    assert_eq!(verify(&found(tiers.clone()), &ids), Verdict::Good);
    let wrong = verify(&found(tiers), &[None, Some(Id(7))]);
    assert!(matches!(wrong, Verdict::Foreign(why) if why.contains("wrong disk")));
}

#[test]
fn a_crash_while_the_union_is_made_is_not_a_missing_tier() {
    assert_eq!(judged([fresh(marker(1, 0, 2)), What::NoMarker]), Verdict::Fresh);
    assert_eq!(judged([fresh(marker(1, 0, 2)), fresh(marker(1, 1, 2))]), Verdict::Fresh);
    assert_eq!(judged([is(marker(1, 0, 2)), fresh(marker(1, 1, 2))]), Verdict::Good);
}

#[test]
fn tiers_of_another_union_are_refused_with_the_reason() {
    let newer = What::Broken(Broken::Newer(9));
    let damaged = What::Broken(Broken::Text("it is empty".into()));
    for (tiers, says) in [
        ([is(marker(1, 0, 2)), is(marker(2, 1, 2))], "another union"),
        ([is(marker(1, 1, 2)), is(marker(1, 0, 2))], "is the secondary tier of its union"),
        ([is(marker(1, 0, 2)), is(marker(1, 0, 2))], "same marker"),
        ([is(marker(1, 0, 3)), is(marker(1, 1, 3))], "a union of 3 tiers, but 2 are named"),
        ([is(marker(1, 0, 2)), newer], "/t1/.tierfs/marker has version 9"),
        ([damaged, What::NoMarker], "/t0/.tierfs/marker is damaged: it is empty"),
    ] {
        match judged(tiers) {
            Verdict::Foreign(why) => assert!(why.contains(says), "{why}"),
            other => panic!("{says}: {other:?}"),
        }
    }
    assert!(matches!(judged([is(marker(1, 0, 2))]), Verdict::Foreign(why) if why.contains("1 is")));
}

#[test]
fn a_union_grows_only_at_the_slow_end() {
    let (a, b) = (marker(1, 0, 2), marker(1, 1, 2));
    let (a3, c3) = (marker(1, 0, 3), fresh(marker(1, 2, 3)));
    for (tiers, may) in [
        (vec![is(a), is(b), What::NoMarker], true),
        (vec![is(a), is(b), c3.clone()], true),
        (vec![is(a3), is(b), c3.clone()], true),
        (vec![is(a), What::NoMarker, c3], false),
        (vec![is(a), is(b), What::NoRoot(Errno::ENOENT)], false),
        (vec![is(a), is(b), is(marker(2, 2, 3))], false),
        (vec![What::NoMarker, is(a), is(b)], false),
        (vec![is(a), is(b)], false),
        (vec![What::NoMarker, What::NoMarker], false),
        (vec![fresh(a), What::NoMarker, What::NoMarker], false),
    ] {
        assert_eq!(verify::grows(&found(tiers.clone())), may, "{tiers:?}");
    }
}

#[test]
fn every_way_a_marker_breaks_is_told() {
    let good = marker(1, 0, 2).render();
    assert_eq!(Marker::parse(good.as_bytes()), Ok(marker(1, 0, 2)));
    for (text, says) in [
        (String::new(), "is empty"),
        (good.trim_end().to_string(), "cut short"),
        (good.replace("stamps: false\n", ""), "`stamps` is not there"),
        (good.replace("given: never", "given: 5"), "`given: 5` is not possible"),
        (good.replace("rank: 0", "rank: 2"), "rank 2 of 2"),
        (good.replace("tiers: 2", "tiers: 9"), "of 9 tiers"),
        (good.replace("rank: 0", "rank: -1"), "`rank: -1` is not possible"),
        (good.replace("rank: 0", "rank: 0\nrank: 1"), "`rank` is there twice"),
        (good.replace("rank: 0", "rank: 0\ncolour: red"), "`colour` is not known"),
        (good.replace("version: 1", "version: one"), "begin with a version"),
        (good.replace("version: 1\n", ""), "begin with a version"),
        (good.replace("version: 1", "version: 2"), "newer tierfs"),
        (good.replace("union: 0", "union: x"), "not possible"),
        (good.replace("state: member", "state: old"), "not possible"),
        (good.replace("rank: 0", "rank 0"), "no `key: value`"),
        ("\n".to_string(), "no `key: value`"),
        ("# tierfs\n".to_string(), "`version` is not there"),
    ] {
        let told = Marker::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(told.contains(says), "{text:?}: {told}");
    }
    assert!(Marker::parse(b"\xff\n").is_err());
}

#[test]
fn a_marker_cut_anywhere_is_broken() {
    let text = marker(1, 0, 2).render();
    for len in 0..text.len() {
        assert!(Marker::parse(&text.as_bytes()[..len]).is_err(), "{len}");
    }
}

struct Tier(tempfile::TempDir, Root);

fn root() -> Tier {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(&Place::plain(dir.path().into())).unwrap();
    Tier(dir, root)
}

#[test]
fn adopted_tiers_are_good_and_stay_so() {
    let (a, b) = (root(), root());
    let roots = [&a.1, &b.1];
    assert_eq!(read(roots[0].dir()), Ok(None));
    let markers = adopt(&roots, &[None, None]).unwrap();
    let seen: Vec<Found> = [&a, &b].map(|r| Found::look(r.0.path(), Ok(&r.1))).into();
    assert_eq!(verify(&seen, &[Some(markers[0].tier), None]), Verdict::Good);
    let again = adopt(&roots, &[Some(markers[0]), Some(markers[1])]).unwrap();
    assert_eq!(again, markers);
    let mode = |path: &str| a.0.path().join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(".tierfs"), mode(".tierfs/marker")), (0o700, 0o644));
}

#[test]
fn a_tier_is_added_at_the_slow_end() {
    let (a, b) = (root(), root());
    let one = adopt(&[&a.1], &[None]).unwrap();
    let two = adopt(&[&a.1, &b.1], &[Some(one[0]), None]).unwrap();
    assert_eq!((two[0].tier, two[0].tiers, two[1].tiers), (one[0].tier, 2, 2));
    assert_eq!(two[1].union, one[0].union);
    assert_eq!(read(b.1.dir()), Ok(Some(two[1])));
}

#[test]
fn stamps_are_announced_once() {
    let a = root();
    assert_eq!(announce(a.1.dir(), |marker| Marker { stamps: true, ..marker }), Err(Errno::EIO));
    adopt(&[&a.1], &[None]).unwrap();
    announce(a.1.dir(), |marker| Marker { stamps: true, ..marker }).unwrap();
    announce(a.1.dir(), |marker| Marker { stamps: true, ..marker }).unwrap();
    assert!(read(a.1.dir()).unwrap().unwrap().stamps);
}

#[test]
fn what_is_no_marker_file_is_told() {
    let a = root();
    let private = a.0.path().join(".tierfs");
    std::os::unix::fs::symlink("/etc", &private).unwrap();
    assert_eq!(read(a.1.dir()), Err(Broken::NotAFile));
    std::fs::remove_file(&private).unwrap();
    std::fs::write(&private, "").unwrap();
    assert_eq!(read(a.1.dir()), Err(Broken::NotAFile));
    std::fs::remove_file(&private).unwrap();
    std::fs::create_dir_all(private.join("marker")).unwrap();
    assert_eq!(read(a.1.dir()), Err(Broken::NotAFile));
    std::fs::remove_dir(private.join("marker")).unwrap();
    assert_eq!(read(a.1.dir()), Ok(None));
    std::fs::write(private.join("marker"), vec![b'#'; LEN_MAX + 1]).unwrap();
    assert_eq!(read(a.1.dir()), Err(Broken::TooLong));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Marker::parse(&bytes);
    }

    #[test]
    fn a_marker_reads_back(
        union: u128, tier: u128, tiers in 1u8..=8, rank in 0u8..8, member: bool, stamps: bool,
        encrypted: bool, given in proptest::option::of((any::<i64>(), 0u32..1_000_000_000)),
    ) {
        let state = if member { State::Member } else { State::New };
        let rank = Rank(rank % tiers);
        let given = given.map(|(sec, nsec)| Time { sec, nsec });
        let volume = encrypted.then(|| Features::new(Cipher::XChaCha));
        let marker = Marker { union: Id(union), tier: Id(tier), rank, tiers, state, stamps, given, volume };
        prop_assert_eq!(Marker::parse(marker.render().as_bytes()), Ok(marker));
    }
}
