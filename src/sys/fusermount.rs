//! `fusermount3`, the set-user-id helper through which ordinary users mount.

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair};

use crate::sys::mount::{FuseMount, MountError};

/// Names the helper; the same variable as libfuse and fuser use.
const PATH_VARIABLE: &str = "FUSERMOUNT_PATH";
const NAME: &str = "fusermount3";
/// Searched after `PATH`, which cron and service managers keep short.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// Mounts, and returns the descriptor of `/dev/fuse` that the helper opened.
pub(super) fn mount(mountpoint: &Path, how: &FuseMount) -> Result<OwnedFd, MountError> {
    let os = |what| move |errno: nix::errno::Errno| MountError::Os { what, errno: errno.into() };
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).map_err(os("socketpair"))?;
    // The socket becomes the helper's standard input: descriptor 0 is inherited without any other
    // process that is started meanwhile inheriting it too.
    let mut command = command()?;
    command.args(["-o".as_ref(), options(how).as_os_str(), "--".as_ref(), mountpoint.as_os_str()]);
    command.env("_FUSE_COMMFD", "0").stdin(theirs).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| not_started(&error))?;
    drop(command);
    let device = receive(&ours).map_err(os("recvmsg"));
    let said = finish(child)?;
    match (device?, said) {
        (Some(device), None) => Ok(device),
        (_, said) => Err(MountError::Refused(said.unwrap_or_else(|| format!("{NAME} gave no reason")))),
    }
}

/// Unmounts what this user mounted.
pub(super) fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), MountError> {
    let mut command = command()?;
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(mountpoint);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| not_started(&error))?;
    match finish(child)? {
        None => Ok(()),
        Some(said) if said.contains("busy") => Err(MountError::Busy(mountpoint.to_path_buf())),
        Some(said) if is_foreign(&said) => Err(MountError::NotYours(mountpoint.to_path_buf())),
        Some(said) => Err(MountError::Refused(said)),
    }
}

/// Whether the helper says that the mount is not this user's: its words differ by release, and by
/// whether there is an `/etc/mtab` of its own.
fn is_foreign(said: &str) -> bool {
    let words = ["not found in", "not permitted", "ermission denied", "not an owner"];
    words.iter().any(|word| said.contains(word))
}

/// Waits for the helper; its first line of complaint if it failed.
fn finish(child: std::process::Child) -> Result<Option<String>, MountError> {
    let output = child.wait_with_output().map_err(|error| not_started(&error))?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().map_or_else(|| output.status.to_string(), str::to_string);
    let hint = if said.contains("user_allow_other") {
        ": add the line `user_allow_other` to /etc/fuse.conf, or mount without allow_other"
    } else {
        ""
    };
    Ok(Some(format!("{said}{hint}")))
}

fn command() -> Result<Command, MountError> {
    if let Some(path) = std::env::var_os(PATH_VARIABLE) {
        return Ok(Command::new(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let found = folders.map(|folder| folder.join(NAME)).find(|file| file.is_file());
    found.map(Command::new).ok_or(MountError::NoFusermount)
}

fn not_started(error: &std::io::Error) -> MountError {
    match error.kind() {
        std::io::ErrorKind::NotFound => MountError::NoFusermount,
        _ => MountError::Refused(format!("{NAME} cannot be run: {error}")),
    }
}

/// The helper's `-o`; commas and backslashes in values are escaped for it.
fn options(how: &FuseMount) -> OsString {
    let mut text = b"subtype=tierfs,fsname=".to_vec();
    for byte in how.source.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            text.push(b'\\');
        }
        text.push(*byte);
    }
    for (on, word) in [
        (how.allow_other, ",allow_other"),
        (how.default_permissions, ",default_permissions"),
        (how.read_only, ",ro"),
        (!how.suid, ",nosuid"),
        (!how.dev, ",nodev"),
        (!how.exec, ",noexec"),
    ] {
        if on {
            text.extend_from_slice(word.as_bytes());
        }
    }
    if let Some(bytes) = how.max_read_bytes {
        text.extend_from_slice(format!(",max_read={bytes}").as_bytes());
    }
    OsString::from_vec(text)
}

/// The descriptor that comes through `socket`; `None` if the helper closes it without one.
fn receive(socket: &OwnedFd) -> nix::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            let mut fds = fds.into_iter().map(|fd| {
                // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
                unsafe { OwnedFd::from_raw_fd(fd) }
            });
            let first = fds.next();
            fds.for_each(drop);
            return Ok(first);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use nix::sys::socket::{ControlMessage, sendmsg};

    use super::*;

    #[test]
    fn a_descriptor_comes_through_the_socket() {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let fds = [file.as_raw_fd()];
        let parts = [std::io::IoSlice::new(b"x")];
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(b.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
        assert!(receive(&a).unwrap().is_some());
        drop(b);
        assert!(receive(&a).unwrap().is_none());
    }

    #[test]
    fn the_source_is_escaped() {
        let how = FuseMount { source: OsStr::new(r"a,b\c").into(), ..FuseMount::default() };
        let text = options(&how);
        assert!(text.to_str().unwrap().starts_with(r"subtype=tierfs,fsname=a\,b\\c,"), "{text:?}");
    }
}
