//! The requests of the kernel, by name.

use serde::{Deserialize, Serialize};

macro_rules! ops {
    ($($op:ident $name:literal $doc:literal,)*) => {
        /// What the kernel can ask for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Op {
            $(#[doc = $doc] $op,)*
        }

        impl Op {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Op] = &[$(Op::$op,)*];

            /// As tables and metrics show it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Op::$op => $name,)*
                }
            }
        }
    };
}

ops! {
    Lookup "lookup" "A name is looked up.",
    Forget "forget" "The kernel forgets an inode.",
    Getattr "getattr" "Attributes are read.",
    Setattr "setattr" "Attributes or the size are set.",
    Readlink "readlink" "A symbolic link is read.",
    Mknod "mknod" "A node is made.",
    Mkdir "mkdir" "A directory is made.",
    Unlink "unlink" "A name is removed.",
    Rmdir "rmdir" "A directory is removed.",
    Symlink "symlink" "A symbolic link is made.",
    Rename "rename" "A name is changed.",
    Link "link" "A hard link is made.",
    Open "open" "A file is opened.",
    Create "create" "A file is made and opened.",
    Read "read" "Data is read through tierfs.",
    Write "write" "Data is written through tierfs.",
    Flush "flush" "A file that was written on a server or in a program is closed.",
    Release "release" "The last close of a handle of a file.",
    Fsync "fsync" "A file is made durable.",
    Opendir "opendir" "A directory is opened.",
    Readdir "readdir" "A directory is listed, with or without attributes.",
    Releasedir "releasedir" "The last close of a handle of a directory.",
    Fsyncdir "fsyncdir" "A directory is made durable.",
    Statfs "statfs" "The space is asked for.",
    Setxattr "setxattr" "An extended attribute is set.",
    Getxattr "getxattr" "An extended attribute is read.",
    Listxattr "listxattr" "Extended attributes are listed.",
    Removexattr "removexattr" "An extended attribute is removed.",
    Ioctl "ioctl" "Inode flags are read or set.",
    Fallocate "fallocate" "Space is allocated or freed.",
    Lseek "lseek" "Data or holes are looked for.",
    CopyFileRange "copy_file_range" "Data is copied between files.",
}

impl Op {
    /// As an index into a list of all.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_operation_is_its_place_in_the_list() {
        for (at, op) in Op::ALL.iter().enumerate() {
            assert_eq!(op.index(), at);
            assert_eq!(serde_json::to_string(op).unwrap(), format!("\"{}\"", op.name()));
        }
    }
}
