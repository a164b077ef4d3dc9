//! How fast contents and names are encrypted, on one core: `cargo bench --bench ciphers`.
//!
//! Each figure is the best of several rounds, by the time that the processor gave to this thread: other
//! work on the machine only makes it worse.

use std::hint::black_box;
use std::time::Duration;

use tierfs::crypt::{Cipher, DirIv, Features, FileId, MasterKey, Stored, Volume};
use tierfs::sys::secret::Secret;

/// Blocks that are sealed in one call: 128 KiB, as reads and writes of the kernel have.
const BLOCKS: usize = 32;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(40);

/// The time that this thread has run.
fn ran() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// How often `act` can be done in a second.
fn per_second(batch: u32, mut act: impl FnMut()) -> f64 {
    let round = |_| {
        let (start, mut count) = (ran(), 0u32);
        // Looked at rarely enough not to be what is measured.
        while ran() - start < ROUND {
            for _ in 0..batch {
                act();
            }
            count += batch;
        }
        f64::from(count) / (ran() - start).as_secs_f64()
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

fn contents(cipher: Cipher) {
    let master = MasterKey::from_secret(Secret::from_slice(&[7; 32])).expect("32 bytes");
    let volume = Volume::new(&master, Features::new(cipher)).expect("a volume");
    let (content, id) = (volume.content(), FileId([1; 16]));
    for plain_len in [BLOCKS * 4096, 4096, 1000] {
        let plain: Vec<u8> = (0..=255).cycle().take(plain_len).collect();
        let mut sealed = vec![0; content.layout().sealed_len(plain.len())];
        let mut opened = vec![0; plain.len()];
        let batch = if plain_len > 4096 { 50 } else { 1000 };
        let gib = plain_len as f64 / f64::from(1 << 30);
        let seal = per_second(batch, || content.seal(&id, 0, black_box(&plain), &mut sealed).expect("sealed"));
        let open = per_second(batch, || {
            content.open(&id, 0, black_box(&sealed), &mut opened).expect("opened");
        });
        assert_eq!(opened, plain);
        println!(
            "{:<20} {plain_len:>7} B at once: seal {:>5.2} GiB/s, open {:>5.2} GiB/s",
            cipher.name(),
            seal * gib,
            open * gib
        );
    }
}

fn names() {
    let master = MasterKey::from_secret(Secret::from_slice(&[7; 32])).expect("32 bytes");
    let volume = Volume::new(&master, Features::new(Cipher::Gcm)).expect("a volume");
    let iv = DirIv([9; 16]);
    for len in [10, 30, 100, 175, 255] {
        let name = vec![b'n'; len];
        let encode = per_second(10_000, || drop(black_box(volume.names().encode(&iv, black_box(&name)))));
        let full = match volume.names().encode(&iv, &name).expect("a name") {
            Stored::Short(full) | Stored::Long { full, .. } => full,
        };
        let decode = per_second(10_000, || drop(black_box(volume.names().decode(&iv, black_box(&full)))));
        println!("names of {len:>3} bytes: encode {:>5.0} ns, decode {:>5.0} ns", 1e9 / encode, 1e9 / decode);
    }
}

fn main() {
    // Built for the tests too, which only want to know that it runs.
    if std::env::args().all(|argument| argument != "--bench") {
        return;
    }
    for cipher in [Cipher::Gcm, Cipher::XChaCha, Cipher::Siv] {
        contents(cipher);
    }
    names();
}
