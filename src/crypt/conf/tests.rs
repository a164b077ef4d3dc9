//! Configuration files: the known answer, what is refused, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::crypt::features::{Cipher, NameMode};
use crate::types::hex;

/// The file of the known answer.
const KNOWN: &str = r#"{"EncryptedKey":"YGFiY2RlZmdoaWprbG1ub7m9061ZPkI06yDaappdxlHkMwKhewN7+skKAPWkFwqxnjeVL4mkCxgQC/+Ge+B6tQ==",
"ScryptObject":{"Salt":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=","N":1024,"R":8,"P":1,"KeyLen":32},"Version":2,
"FeatureFlags":["HKDF","GCMIV128","DirIV","EMENames","LongNames","Raw64"],"Later":{"a":[1]}}"#;

const CHEAP: ScryptCost = ScryptCost { log_n: 10, r: 8, p: 1 };

fn test() -> Secret {
    Secret::from_slice(b"test")
}

fn master() -> MasterKey {
    let bytes: Vec<u8> = (0..32).collect();
    MasterKey::from_secret(Secret::from_slice(&bytes)).expect("32 bytes")
}

/// The known file with one text in place of another.
fn with(from: &str, to: &str) -> Result<Conf, ConfProblem> {
    assert!(KNOWN.contains(from), "{from}");
    Conf::parse(KNOWN.replace(from, to).as_bytes())
}

#[test]
fn the_known_file_gives_the_known_key() {
    let conf = Conf::parse(KNOWN.as_bytes()).expect("a conf");
    assert_eq!(conf.features, Features::new(Cipher::Gcm));
    assert_eq!(conf.cost, CHEAP);
    assert_eq!(conf.unlock(&test()), Ok(master()));
    assert_eq!(conf.unlock(&Secret::from_slice(b"tess")), Err(Unlock::WrongPassphrase));
    assert_eq!(conf.unlock(&Secret::zeroed(0)), Err(Unlock::EmptyPassphrase));
    let derived = scrypt::derive(&test(), &conf.salt, conf.cost).expect("derived");
    assert_eq!(hex::write(derived.as_slice()), "b511a212d3d13355331881c5f67fa95cac7744d36e683ee7dbb8a6e2726217a0");
    let nonce: Vec<u8> = (0x60..0x70).collect();
    let again = Conf::wrap_with(&master(), conf.features, &test(), CHEAP, conf.salt.clone(), &nonce);
    assert_eq!(again.expect("wrapped").wrapped, conf.wrapped);
}

#[test]
fn every_kind_reads_back_and_unlocks() {
    for cipher in [Cipher::Gcm, Cipher::XChaCha, Cipher::Siv] {
        let base = Features::new(cipher);
        let short = Features { long_max: 62, ..base };
        for features in [base, base.with_plain_names(), base.with_deterministic_names(), short] {
            let conf = Conf::wrap(&master(), features, &test(), CHEAP).expect("wrapped");
            let read = Conf::parse(&conf.render()).expect("a conf");
            assert_eq!(read, conf);
            assert_eq!(read.unlock(&test()), Ok(master()));
        }
    }
    let old = Features { hkdf: false, raw64: false, ..Features::new(Cipher::Gcm) };
    let conf = Conf::wrap(&master(), old, &test(), CHEAP).expect("wrapped");
    assert_eq!(conf.wrapped.len(), 60);
    assert_eq!(Conf::parse(&conf.render()).expect("a conf").unlock(&test()), Ok(master()));
}

#[test]
fn the_flags_are_those_of_gocryptfs() {
    let flags = |features: Features| write::flags(&features).join(" ");
    let gcm = Features::new(Cipher::Gcm);
    assert_eq!(flags(gcm), "HKDF GCMIV128 DirIV EMENames LongNames Raw64");
    assert_eq!(flags(gcm.with_plain_names()), "HKDF GCMIV128 PlaintextNames");
    assert_eq!(flags(gcm.with_deterministic_names()), "HKDF GCMIV128 EMENames LongNames Raw64");
    assert_eq!(flags(Features::new(Cipher::XChaCha)), "HKDF XChaCha20Poly1305 DirIV EMENames LongNames Raw64");
    assert_eq!(flags(Features::new(Cipher::Siv)), "HKDF GCMIV128 DirIV EMENames LongNames Raw64 AESSIV");
}

#[test]
fn what_gocryptfs_refuses_is_refused() {
    assert_eq!(with("\"Version\":2", "\"Version\":3"), Err(ConfProblem::Version(3)));
    let unknown = with("\"Raw64\"", "\"Raw64\",\"Later\"").expect_err("unknown");
    assert_eq!(unknown, ConfProblem::UnknownFlags(vec!["Later".into()]));
    assert!(unknown.to_string().contains("(Later)"));
    for (from, to) in [
        ("\"GCMIV128\",", ""),
        ("\"EMENames\",", ""),
        ("\"GCMIV128\"", "\"XChaCha20Poly1305\",\"GCMIV128\""),
        ("\"GCMIV128\"", "\"XChaCha20Poly1305\",\"AESSIV\""),
        ("\"HKDF\",\"GCMIV128\"", "\"XChaCha20Poly1305\""),
        ("\"Raw64\"", "\"Raw64\",\"PlaintextNames\""),
        ("\"Version\"", "\"LongNameMax\":100,\"Version\""),
    ] {
        assert!(matches!(with(from, to), Err(ConfProblem::Flags(_))), "{to}");
    }
    for (from, to) in [
        ("\"N\":1024", "\"N\":512"),
        ("\"N\":1024", "\"N\":1025"),
        ("\"N\":1024", "\"N\":0"),
        ("\"N\":1024", "\"N\":9223372036854775808"),
        ("\"R\":8", "\"R\":7"),
        ("\"R\":8", "\"R\":4294967295"),
        ("\"P\":1", "\"P\":0"),
        ("\"P\":1", "\"P\":4294967295"),
        ("\"KeyLen\":32", "\"KeyLen\":64"),
        ("QEFC", "QEF"),
        ("YGFi", "YGFiYGFi"),
        ("\"Raw64\"", "\"Raw64\",\"LongNameMax\""),
    ] {
        assert!(matches!(with(from, to), Err(ConfProblem::Value(_))), "{to}");
    }
    for text in ["", "{}", "[]", "null", "\u{0}", "{\"Version\":2}", "not json at all"] {
        assert!(matches!(Conf::parse(text.as_bytes()), Err(ConfProblem::NotAConf(_))), "{text:?}");
    }
    assert!(matches!(Conf::parse(&vec![b' '; 1 << 20]), Err(ConfProblem::NotAConf(_))));
    assert!(matches!(with("\"N\":1024", "\"N\":-1"), Err(ConfProblem::NotAConf(_))));
}

#[test]
fn other_volumes_of_gocryptfs_are_read() {
    let plain = with("\"DirIV\",\"EMENames\",\"LongNames\",\"Raw64\"", "\"PlaintextNames\"").expect("a conf");
    assert_eq!(plain.features, Features::new(Cipher::Gcm).with_plain_names());
    let token = with("\"Raw64\"", "\"Raw64\",\"FIDO2\"").expect("a conf");
    assert_eq!(token.unlock(&test()), Err(Unlock::Fido2));
    let max = with("\"Raw64\"]", "\"Raw64\",\"LongNameMax\"],\"LongNameMax\":100").expect("a conf");
    assert_eq!((max.features.long_max, max.features.names), (100, NameMode::Encrypted { dir_iv: true }));
}

#[test]
fn a_damaged_wrapped_key_is_a_wrong_passphrase() {
    let mut conf = Conf::parse(KNOWN.as_bytes()).expect("a conf");
    for at in [0, 16, 50] {
        conf.wrapped[at] ^= 1;
        assert_eq!(conf.unlock(&test()), Err(Unlock::WrongPassphrase));
        conf.wrapped[at] ^= 1;
    }
    conf.wrapped.truncate(7);
    assert_eq!(conf.unlock(&test()), Err(Unlock::WrongPassphrase));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_a_conf_are_a_problem(bytes: Vec<u8>, text in "[ -~]{0,300}") {
        prop_assert!(Conf::parse(&bytes).is_err());
        prop_assert!(Conf::parse(text.as_bytes()).is_err());
    }

    #[test]
    fn a_changed_byte_is_a_problem_or_another_conf(at in 0..KNOWN.len(), byte: u8, cut in 0..KNOWN.len()) {
        let mut bytes = KNOWN.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(conf) = Conf::parse(&bytes) {
            prop_assert!(Conf::parse(&conf.render()).is_ok());
        }
        prop_assert!(Conf::parse(&KNOWN.as_bytes()[..cut]).is_err());
    }
}
