//! The known answers of the format, and the ciphers against other programs' ciphers.

use proptest::prelude::*;

use crate::crypt::content::Content;
use crate::crypt::layout::BLOCK;
use crate::crypt::*;
use crate::sys::secret::Secret;
use crate::types::errno::Errno;
use crate::types::hex::write;

fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|at| from + u8::try_from(at).expect("small"))
}

fn master() -> MasterKey {
    MasterKey::from_secret(Secret::from_slice(&counting::<32>(0))).expect("32 bytes")
}

fn volume(cipher: Cipher) -> Volume {
    Volume::new(&master(), Features::new(cipher)).expect("a volume")
}

const ID: FileId = FileId([16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31]);
const CIPHERS: [Cipher; 3] = [Cipher::Gcm, Cipher::XChaCha, Cipher::Siv];

/// Bytes from hexadecimal digits.
fn hex(digits: &str) -> Vec<u8> {
    crate::types::hex::read(digits).expect("digits")
}

fn seal(content: &Content, first: u64, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; content.layout().sealed_len(plain.len())];
    content.seal(&ID, first, plain, &mut out).expect("sealed");
    out
}

fn open(content: &Content, first: u64, sealed: &[u8]) -> Result<Vec<u8>, Damage> {
    let mut out = vec![0xee; sealed.len()];
    let len = content.open(&ID, first, sealed, &mut out)?;
    out.truncate(len);
    Ok(out)
}

#[test]
fn blocks_open_to_the_known_answers() {
    for (cipher, blocks) in [
        (
            Cipher::Gcm,
            [
                "202122232425262728292a2b2c2d2e2f1d52734d014edc9dd525a0786a2c3a13c9efc9",
                "202122232425262728292a2b2c2d2e2f1d5273e998794bb3c4944443ef82fc91ff7287",
            ],
        ),
        (
            Cipher::XChaCha,
            [
                "202122232425262728292a2b2c2d2e2f30313233343536373b5ba87836fc8d7722c364bc6396a47b284c03",
                "202122232425262728292a2b2c2d2e2f30313233343536373b5ba81676650bdc225e080c03f5788a6bd30f",
            ],
        ),
        (
            Cipher::Siv,
            [
                "202122232425262728292a2b2c2d2e2f1974522469bc36b0b8fc63a95088309fbdfd70",
                "202122232425262728292a2b2c2d2e2f5bc8daa6d5c75779ed16ebd8f07969e0c1a2f2",
            ],
        ),
    ] {
        let volume = volume(cipher);
        let plain = open(volume.content(), 0, &hex(blocks[0])).expect("genuine");
        assert_eq!(open(volume.content(), 7, &hex(blocks[1])), Ok(plain.clone()), "{cipher:?}");
        assert_eq!(open(volume.content(), 6, &hex(blocks[1])), Err(Damage::Block(6)), "{cipher:?}");
        assert_eq!(plain.len(), 3);
        if cipher == Cipher::Siv {
            let mut out = [0; 35];
            let nonce = |_| counting::<16>(0x20);
            volume.content().seal_with(&ID, 7, &nonce, &plain, &mut out).expect("sealed");
            assert_eq!(write(&out), blocks[1]);
        }
    }
}

#[test]
fn targets_open_to_the_known_answers() {
    for (cipher, text) in [
        (Cipher::Gcm, "ICEiIyQlJicoKSorLC0uLwhXZDNj4h19yIssi6PmZMMpJng"),
        (Cipher::XChaCha, "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3Ll6_2HifqbqBO6DX2yU-F1-3BQ"),
        (Cipher::Siv, "ICEiIyQlJicoKSorLC0uLyDd_Tno3rEXGvKLtBgHLIOOsWQ"),
    ] {
        let volume = volume(cipher);
        let sealed = volume.names().decode_target(text.as_bytes()).expect("base64");
        assert_eq!(volume.content().open_value(&sealed), Ok(b"tgt".to_vec()), "{cipher:?}");
        assert_eq!(volume.names().encode_target(&sealed), text.as_bytes());
        let again = volume.content().seal_value_with(&counting(0x20), b"tgt");
        assert_eq!(again, if cipher == Cipher::Siv { Ok(sealed) } else { Err(Errno::EINVAL) });
    }
}

#[test]
fn names_are_kept_as_the_known_answers() {
    let volume = volume(Cipher::Gcm);
    let (names, iv) = (volume.names(), DirIv(counting(0x70)));
    assert_eq!(names.encode(&iv, b"hello.txt"), Ok(Stored::Short(b"PIQW-88ah3cTBIe4_oGcbg".to_vec())));
    assert_eq!(names.decode(&iv, b"PIQW-88ah3cTBIe4_oGcbg"), Ok(b"hello.txt".to_vec()));
    let Ok(Stored::Short(name)) = names.encode(&iv, &[b'a'; 175]) else { panic!("not short") };
    assert!(name.len() == 235 && name.starts_with(b"WBqlk0fDnwzACr3UHP-R6-TiCpog7R3y"));
    assert_eq!(names.short_max(), 175);
    let Ok(Stored::Long { entry, full }) = names.encode(&iv, &[b'a'; 176]) else { panic!("not long") };
    assert_eq!(entry, b"gocryptfs.longname.pNWds5uuzVsScE7juwYeBZRKCrv-5ORLaAiCZ9Kb2kM");
    assert!(full.len() == 256 && full.starts_with(b"flE8mdcJTqCuPKAJ33AFWfrWFhI4wOZI"));
    assert_eq!(names.hashed(&full), entry);
    assert_eq!(names.decode(&iv, &full), Ok(vec![b'a'; 176]));
    let xattr = b"user.gocryptfs.49MtW6o4r3wu_Jt77wclOA";
    assert_eq!(names.encode_xattr(b"user.foo"), Ok(xattr.to_vec()));
    assert_eq!(names.decode_xattr(xattr), Ok(b"user.foo".to_vec()));
    assert_eq!(names.decode_xattr(b"user.foo"), Err(Damage::Name(NameDamage::Prefix)));
}

#[test]
fn what_is_no_name_is_refused() {
    for features in [Features::new(Cipher::Gcm), Features::new(Cipher::Gcm).with_plain_names()] {
        let volume = Volume::new(&master(), features).expect("a volume");
        let iv = DirIv(counting(0x70));
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(volume.names().encode(&iv, name), Err(Errno::EINVAL));
        }
        assert_eq!(volume.names().encode(&iv, &[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert!(volume.names().encode(&iv, &[b'a'; 255]).is_ok());
    }
}

#[test]
fn holes_are_zeros_and_zero_nonces_elsewhere_are_damage() {
    for cipher in CIPHERS {
        let volume = volume(cipher);
        let content = volume.content();
        let stride = usize::try_from(content.layout().block()).expect("small");
        let mut sealed = seal(content, 0, &[7; 3 * BLOCK + 9]);
        sealed[stride..2 * stride].fill(0);
        let plain = open(content, 0, &sealed).expect("a hole");
        assert_eq!(plain, [vec![7; BLOCK], vec![0; BLOCK], vec![7; BLOCK + 9]].concat(), "{cipher:?}");
        sealed[2 * stride - 1] = 1;
        assert_eq!(open(content, 0, &sealed), Err(Damage::Block(1)));
        assert_eq!(open(content, 5, &vec![0; stride - 1]), Err(Damage::Block(5)));
        assert_eq!(content.open_value(&[0; 100]), Err(Damage::Value));
        assert_eq!(open(content, 0, &vec![0; 20 * stride]), Ok(vec![0; 20 * BLOCK]));
    }
}

#[test]
fn empty_stays_empty() {
    for cipher in CIPHERS {
        let volume = volume(cipher);
        assert_eq!(volume.content().seal_value(b""), Ok(vec![]));
        assert_eq!(volume.content().open_value(b""), Ok(vec![]));
        assert_eq!(open(volume.content(), 0, b""), Ok(vec![]));
        assert_eq!(seal(volume.content(), 0, b""), b"");
    }
}

#[test]
fn buffers_of_the_wrong_size_are_refused() {
    let volume = volume(Cipher::Gcm);
    assert_eq!(volume.content().seal(&ID, 0, &[1; 100], &mut [0; 131]), Err(Errno::EINVAL));
    assert_eq!(volume.content().seal(&ID, u64::MAX, &[1; 100], &mut [0; 132]), Err(Errno::EFBIG));
    let sealed = seal(volume.content(), 0, &[1; BLOCK + 100]);
    assert_eq!(volume.content().open(&ID, 0, &sealed, &mut [0; BLOCK + 99]), Err(Damage::Block(1)));
}

#[test]
fn volumes_without_hkdf_use_the_master_key_itself() {
    let old = |cipher| Features { hkdf: false, raw64: false, ..Features::new(cipher) };
    let gcm = Volume::new(&master(), old(Cipher::Gcm)).expect("a volume");
    let sealed = seal(gcm.content(), 3, b"old");
    let mut bound = 3u64.to_be_bytes().to_vec();
    bound.extend(ID.0);
    let plain = oracle_open_gcm(&counting(0), &sealed, &bound);
    assert_eq!(plain.as_deref(), Some(&b"old"[..]));
    let siv = Volume::new(&master(), old(Cipher::Siv)).expect("a volume");
    let key: [u8; 64] = <sha2::Sha512 as sha2::Digest>::digest(counting::<32>(0)).into();
    assert_eq!(oracle_open_siv(&key, &seal(siv.content(), 3, b"old"), &bound).as_deref(), Some(&b"old"[..]));
}

fn key(purpose: kdf::Purpose) -> Vec<u8> {
    kdf::expand(master().as_slice(), purpose).as_slice().to_vec()
}

fn oracle_open_gcm(key: &[u8; 32], sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
    use aes_gcm::aead::{Aead, KeyInit, Payload, consts::U16};
    let cipher = aes_gcm::AesGcm::<aes_gcm::aes::Aes256, U16>::new(key.into());
    let nonce: &[u8; 16] = sealed.first_chunk().expect("a nonce");
    cipher.decrypt(nonce.into(), Payload { msg: &sealed[16..], aad: bound }).ok()
}

fn oracle_open_xchacha(key: &[u8; 32], sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    let cipher = chacha20poly1305::XChaCha20Poly1305::new(key.into());
    let nonce: &[u8; 24] = sealed.first_chunk().expect("a nonce");
    cipher.decrypt(nonce.into(), Payload { msg: &sealed[24..], aad: bound }).ok()
}

fn oracle_open_siv(key: &[u8; 64], sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
    use aes_siv::KeyInit;
    let mut cipher = aes_siv::siv::Aes256Siv::new(key.into());
    cipher.decrypt([bound, &sealed[..16]], &sealed[16..]).ok()
}

fn oracle_open(cipher: Cipher, sealed: &[u8], bound: &[u8]) -> Option<Vec<u8>> {
    match cipher {
        Cipher::Gcm => oracle_open_gcm(key(kdf::Purpose::Gcm)[..].try_into().expect("32"), sealed, bound),
        Cipher::XChaCha => oracle_open_xchacha(key(kdf::Purpose::XChaCha)[..].try_into().expect("32"), sealed, bound),
        Cipher::Siv => oracle_open_siv(key(kdf::Purpose::Siv)[..].try_into().expect("64"), sealed, bound),
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn any_cipher() -> impl Strategy<Value = Cipher> {
    prop::sample::select(&CIPHERS[..])
}

/// Lengths with those around whole blocks and whole rounds of lanes among them.
fn any_len() -> impl Strategy<Value = usize> {
    let edges: Vec<usize> = [1, 8, 16, 32, 40].iter().flat_map(|n| [n * BLOCK - 1, n * BLOCK, n * BLOCK + 1]).collect();
    prop_oneof![1usize..200, 1usize..3 * BLOCK, prop::sample::select(edges)]
}

/// Bytes that differ everywhere, without the cost of choosing each.
fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_sealed_opens_here_and_elsewhere(cipher in any_cipher(), len in any_len(), seed: u64, first in 0..1u64 << 50) {
        let volume = volume(cipher);
        let plain = text(len, seed);
        let sealed = seal(volume.content(), first, &plain);
        prop_assert_eq!(open(volume.content(), first, &sealed), Ok(plain.clone()));
        let stride = usize::try_from(volume.content().layout().block()).expect("small");
        for ((sealed, plain), block) in sealed.chunks(stride).zip(plain.chunks(BLOCK)).zip(first..) {
            let mut bound = block.to_be_bytes().to_vec();
            bound.extend(ID.0);
            prop_assert_eq!(oracle_open(cipher, sealed, &bound), Some(plain.to_vec()));
        }
        let value = volume.content().seal_value(&plain).expect("sealed");
        prop_assert_eq!(oracle_open(cipher, &value, &[0; 8]), Some(plain.clone()));
        prop_assert_eq!(volume.content().open_value(&value), Ok(plain));
    }

    #[test]
    fn a_flipped_bit_is_damage_of_its_block(cipher in any_cipher(), len in any_len(), seed: u64, at: prop::sample::Index, bit in 0..8u32) {
        let volume = volume(cipher);
        let plain = text(len, seed);
        let mut sealed = seal(volume.content(), 0, &plain);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        let stride = usize::try_from(volume.content().layout().block()).expect("small");
        let bad = at / stride;
        let mut out = vec![0xee; plain.len()];
        prop_assert_eq!(volume.content().open(&ID, 0, &sealed, &mut out), Err(Damage::Block(bad as u64)));
        prop_assert_eq!(&out[..bad * BLOCK], &plain[..bad * BLOCK]);
        // Nothing that is not genuine gets out.
        let end = plain.len().min((bad + 1) * BLOCK);
        prop_assert!(out[bad * BLOCK..end].iter().all(|byte| *byte == 0 || *byte == 0xee));
        let mut value = volume.content().seal_value(&plain).expect("sealed");
        let at = at % value.len();
        value[at] ^= 1 << bit;
        prop_assert_eq!(volume.content().open_value(&value), Err(Damage::Value));
    }

    #[test]
    fn a_cut_swapped_or_foreign_block_is_damage(cipher in any_cipher(), seed: u64, cut in 1usize..BLOCK + 32, blocks in 2usize..20, one: prop::sample::Index, two: prop::sample::Index) {
        let volume = volume(cipher);
        let plain = text(blocks * BLOCK, seed);
        let sealed = seal(volume.content(), 0, &plain);
        // A whole block that is cut off is not noticed: the format has no length.
        let short = &sealed[..sealed.len() - cut];
        prop_assert_eq!(open(volume.content(), 0, short), Err(Damage::Block(blocks as u64 - 1)));
        let (one, two) = (one.index(blocks), two.index(blocks));
        let stride = sealed.len() / blocks;
        if one != two {
            let mut swapped = sealed.clone();
            swapped[one * stride..][..stride].copy_from_slice(&sealed[two * stride..][..stride]);
            prop_assert_eq!(open(volume.content(), 0, &swapped), Err(Damage::Block(one as u64)));
        }
        let other = FileId::random().expect("random");
        let mut out = vec![0; plain.len()];
        prop_assert_eq!(volume.content().open(&other, 0, &sealed, &mut out), Err(Damage::Block(0)));
    }

    #[test]
    fn any_bytes_as_contents_are_damage(cipher in any_cipher(), bytes: Vec<u8>, len in 0usize..3 * BLOCK, seed: u64, first: u64) {
        let volume = volume(cipher);
        for bytes in [bytes, text(len, seed)] {
            if !bytes.is_empty() {
                prop_assert_eq!(open(volume.content(), first, &bytes), Err(Damage::Block(first)));
                prop_assert_eq!(volume.content().open_value(&bytes), Err(Damage::Value));
            }
            prop_assert!(bytes.len() == 18 || FileId::parse(&bytes).is_err());
            prop_assert!(volume.names().decode(&DirIv::ZERO, &bytes).is_err() || bytes.len() >= 22);
            let _any = volume.names().decode_xattr(&[b"user.gocryptfs.", &bytes[..]].concat());
            let _any = volume.names().decode_target(&bytes);
            let _any = DirIv::parse(&bytes);
        }
    }

    #[test]
    fn names_go_there_and_back(name in prop::collection::vec((1u8..).prop_map(|byte| if byte == b'/' { b'_' } else { byte }), 1..256), iv: [u8; 16], raw64: bool, long_max in 62u16..256, dir_iv: bool) {
        let mode = NameMode::Encrypted { dir_iv };
        let features = Features { raw64, long_max, names: mode, ..Features::new(Cipher::Gcm) };
        let volume = Volume::new(&master(), features).expect("a volume");
        let (names, iv) = (volume.names(), DirIv(iv));
        prop_assume!(name != b"." && name != b"..");
        let stored = names.encode(&iv, &name).expect("a name");
        prop_assert!(stored.entry().len() <= usize::from(long_max).max(64));
        let full = match &stored {
            Stored::Short(full) => full,
            Stored::Long { full, .. } => full,
        };
        prop_assert_eq!(matches!(stored, Stored::Long { .. }), name.len() > names.short_max());
        prop_assert_eq!(names.decode(&iv, full), Ok(name.clone()));
        let other = names.decode(&DirIv::random().expect("random"), full);
        prop_assert_eq!(other == Ok(name.clone()), !dir_iv);
        match names.encode_xattr(&name) {
            Ok(stored) => prop_assert_eq!(names.decode_xattr(&stored), Ok(name)),
            Err(errno) => prop_assert!(errno == Errno::ERANGE && name.len() > 150),
        }
    }
}
