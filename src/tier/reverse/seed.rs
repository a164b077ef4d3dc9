//! From what the numbers of one thing follow.

use crate::types::attr::Stat;

/// The bytes from which file id and nonces of what `stat` describes are derived, which is at `path`
/// in the view.
///
/// What has one name takes its path, as in `gocryptfs -reverse`: that is stable on every machine. What has
/// several must have the same bytes under each, whichever is read first: a program that
/// knows hard links reads one of them, one that does not and stores equal contents once finds
/// them equal, and the kernel takes them for one file. No path would do, as nobody knows them all; so
/// it takes the number of the body, which is made of the inode number, and the birth
/// time. It is the same in every run, and in a mounted union also after the file has
/// changed its tier. It is another where the tree was copied to another disk: then these files, and no
/// others, are copied anew once.
///
/// A path never begins with a zero byte, so the two kinds never meet.
pub fn of(path: &[u8], stat: &Stat) -> Vec<u8> {
    if stat.is_dir() || stat.nlink <= 1 {
        return path.to_vec();
    }
    let mut seed = b"\0body".to_vec();
    seed.extend(stat.body.0.to_be_bytes());
    seed.extend(stat.generation.to_be_bytes());
    seed
}
