//! Names and numbers of users and groups, from wherever the system keeps them (`nsswitch.conf(5)`).

use nix::unistd::{Group, Uid, User};

/// The number of a user; `None` if there is no such user or the system cannot tell.
pub fn user(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// The number of a group; `None` if there is no such group or the system cannot tell.
pub fn group(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// The name of a user; `None` where nobody knows it.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_root() {
        assert_eq!((user("root"), group("root")), (Some(0), Some(0)));
        assert_eq!(user("no such user"), None);
    }
}
