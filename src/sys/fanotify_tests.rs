//! What the parser makes of good, odd and broken bytes.

use super::*;

/// One event with `records` after the metadata, as the kernel lays it out.
fn event(mask: u64, pid: i32, records: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(u32::try_from(METADATA_LEN + records.len()).unwrap().to_ne_bytes());
    out.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
    out.extend(u16::try_from(METADATA_LEN).unwrap().to_ne_bytes());
    out.extend(mask.to_ne_bytes());
    out.extend((-1i32).to_ne_bytes());
    out.extend(pid.to_ne_bytes());
    out.extend(records);
    out
}

/// One directory record, padded to four bytes.
fn record(kind: u8, fs: u64, handle: &[u8], tail: &[u8]) -> Vec<u8> {
    let len = (HANDLE_AT + handle.len() + tail.len()).next_multiple_of(4);
    let mut out = vec![kind, 0];
    out.extend(u16::try_from(len).unwrap().to_ne_bytes());
    out.extend(fs.to_ne_bytes());
    out.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
    out.extend(7i32.to_ne_bytes());
    out.extend(handle);
    out.extend(tail);
    out.resize(len, 0);
    out
}

const NAMED: u8 = libc::FAN_EVENT_INFO_TYPE_DFID_NAME;

#[test]
fn a_named_event_is_read_whole() {
    let mut bytes = event(libc::FAN_CREATE | libc::FAN_ONDIR, 42, &record(NAMED, 9, b"handle", b"a\xffb\0"));
    bytes.extend(event(libc::FAN_DELETE, 43, &record(NAMED, 9, b"handle", b"c\0")));
    let events: Vec<_> = Events::new(&bytes).map(|e| e.unwrap()).collect();
    assert_eq!(events.len(), 2);
    let place = events[0].place.unwrap();
    assert_eq!((place.fs, place.dir.kind, place.dir.bytes), (FsId(9), 7, &b"handle"[..]));
    assert_eq!(place.name, Some(&b"a\xffb"[..]));
    assert!(events[0].mask.has(Mask::ENTRY) && events[0].mask.has(Mask::DIRECTORY));
    assert_eq!((events[0].pid, events[1].pid), (42, 43));
    assert_eq!(events[1].place.unwrap().name, Some(&b"c"[..]));
}

#[test]
fn a_dot_or_no_name_is_the_directory_itself() {
    let dfid = libc::FAN_EVENT_INFO_TYPE_DFID;
    for records in [record(NAMED, 1, b"h", b".\0"), record(dfid, 1, b"h", b""), record(NAMED, 1, b"h", b"\0")] {
        let bytes = event(libc::FAN_ATTRIB, 1, &records);
        let event = Events::new(&bytes).next().unwrap().unwrap();
        assert_eq!(event.place.unwrap().name, None);
    }
}

#[test]
fn an_overflow_has_no_place_and_other_records_are_passed_over() {
    let bytes = event(libc::FAN_Q_OVERFLOW, 0, &[]);
    let overflow = Events::new(&bytes).next().unwrap().unwrap();
    assert!(overflow.mask.has(Mask::OVERFLOW));
    assert_eq!(overflow.place, None);

    let mut records = record(libc::FAN_EVENT_INFO_TYPE_FID, 1, b"child", b"");
    records.extend(record(NAMED, 2, b"dir", b"n\0"));
    let bytes = event(libc::FAN_MODIFY, 1, &records);
    let event = Events::new(&bytes).next().unwrap().unwrap();
    assert_eq!(event.place.unwrap().fs, FsId(2));
}

#[test]
fn wrong_lengths_are_malformed_and_end_the_sequence() {
    let good = event(libc::FAN_CREATE, 1, &record(NAMED, 9, b"handle", b"name\0"));
    for cut in 1..good.len() {
        assert_eq!(Events::new(&good[..cut]).collect::<Vec<_>>(), [Err(Malformed)], "cut at {cut}");
    }
    let patched = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        Events::new(&bytes).map(|e| e.map(drop)).collect::<Vec<_>>()
    };
    let malformed = [Err(Malformed)];
    assert_eq!(patched(0, &0u32.to_ne_bytes()), malformed, "event of length 0");
    assert_eq!(patched(0, &u32::MAX.to_ne_bytes()), malformed, "event past the end");
    assert_eq!(patched(4, &[99]), malformed, "unknown version");
    assert_eq!(patched(6, &8u16.to_ne_bytes()), malformed, "short metadata");
    assert_eq!(patched(6, &u16::MAX.to_ne_bytes()), malformed, "metadata past the event");
    let record_at = METADATA_LEN;
    assert_eq!(patched(record_at + 2, &0u16.to_ne_bytes()), malformed, "record of length 0");
    assert_eq!(patched(record_at + 2, &u16::MAX.to_ne_bytes()), malformed, "record past the event");
    assert_eq!(patched(record_at + 12, &0u32.to_ne_bytes()), malformed, "empty handle");
    assert_eq!(patched(record_at + 12, &129u32.to_ne_bytes()), malformed, "handle too long");
    assert_eq!(patched(record_at + 12, &u32::MAX.to_ne_bytes()), malformed, "handle past the record");
    let unended = event(libc::FAN_CREATE, 1, &record(NAMED, 9, b"handle", b"names!"));
    assert_eq!(Events::new(&unended).map(|e| e.map(drop)).collect::<Vec<_>>(), malformed, "name without an end");
}

#[test]
fn no_bytes_at_all_make_the_parser_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let good = event(libc::FAN_CREATE, 1, &record(NAMED, 9, b"handle", b"name\0"));
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = usize::try_from(seed >> 33).unwrap() % bytes.len();
            bytes[at] = seed.to_ne_bytes()[5];
        }
        assert!(Events::new(&bytes).count() <= 4);
    }
}

#[test]
fn a_handle_leads_back_to_its_directory() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = std::fs::File::open(dir.path()).unwrap();
    let handle = handle_of(file.as_fd()).unwrap();
    match open_dir_by_handle(file.as_fd(), handle.borrow()) {
        Ok(again) => {
            let again = std::fs::File::from(again).metadata().unwrap();
            let first = file.metadata().unwrap();
            assert_eq!((again.dev(), again.ino()), (first.dev(), first.ino()));
            let gone = handle.clone();
            drop(dir);
            drop(file);
            let shm = std::fs::File::open("/dev/shm").unwrap();
            assert_eq!(open_dir_by_handle(shm.as_fd(), gone.borrow()).unwrap_err(), Errno::ESTALE);
        }
        Err(error) => assert_eq!(error, Errno::EPERM, "only without CAP_DAC_READ_SEARCH"),
    }
}
