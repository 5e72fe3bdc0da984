//! Whether a file can hold code of somebody else: who owns it, every folder above it and every link on the way, and who
//! may write there.
//!
//! A library runs with all rights of the process that opens it, so a place that another account can write is a way to run
//! code as this one. The rule, over owner, group and mode alone:
//!
//! - everything on the way belongs to the current user or to root;
//! - nothing on the way can be written by everyone or by a group. Sticky folders (`/tmp`) are apart: there nobody replaces
//!   what belongs to others, and what lies there is still held to the first point;
//! - a group that nobody else is in counts as its user: where accounts have a group of their own, folders are commonly
//!   writable by it. Whether one is, `/etc/passwd` and `/etc/group` say; for an account that only a directory service
//!   knows, no group counts as private.
//!
//! An access-control list shows as group rights (its mask), so a folder that it opens counts as writable by its group.
//! Windows is not looked at.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links that are followed from one path to its file, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// What speaks against trusting a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// The file, a folder above it or a link on the way belongs to a third account.
    #[error("{path} belongs to user {owner}, who is neither root nor the current user ({user})")]
    Owner {
        /// What belongs to it.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The current user.
        user: u32,
    },
    /// Everyone may write the file or a folder above it.
    #[error("every user can write {path} (mode {mode:04o})")]
    Everyone {
        /// What can be written.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A group may write the file or a folder above it.
    #[error("group {group} can write {path} (mode {mode:04o})")]
    Group {
        /// What can be written.
        path: PathBuf,
        /// Its group.
        group: u32,
        /// Its permission bits.
        mode: u32,
    },
}

impl Doubt {
    /// The command that takes the doubt away; none for a foreign owner, who alone decides.
    pub(crate) fn remedy(&self) -> Option<String> {
        match self {
            Doubt::Owner { .. } => None,
            Doubt::Everyone { path, .. } | Doubt::Group { path, .. } => Some(format!("chmod go-w {}", path.display())),
        }
    }
}

/// One file, folder or link on the way to a library, as the file system describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    path: PathBuf,
    kind: Kind,
    uid: u32,
    gid: u32,
    /// Permission bits with set-uid, set-gid and sticky.
    mode: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    Link,
    File,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    uid: u32,
    /// Groups whose members can do nothing that the user or root could not.
    groups: Vec<u32>,
}

impl User {
    #[cfg(unix)]
    fn current() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let table = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut groups: Vec<u32> =
            private_group(uid, &table("/etc/passwd"), &table("/etc/group")).into_iter().collect();
        if cfg!(target_os = "macos") {
            groups.push(80); // admin, whose members may become root; Homebrew's folders are writable by it.
        }
        Self { uid, groups }
    }

    /// What speaks against `node`. A link's own mode means nothing; who may replace it, its folder says.
    fn doubt(&self, node: &Node) -> Option<Doubt> {
        let path = || node.path.clone();
        if node.uid != 0 && node.uid != self.uid {
            return Some(Doubt::Owner { path: path(), owner: node.uid, user: self.uid });
        }
        let sticky = node.kind == Kind::Folder && node.mode & 0o1000 != 0;
        if node.kind == Kind::Link || sticky {
            return None;
        }
        if node.mode & 0o002 != 0 {
            return Some(Doubt::Everyone { path: path(), mode: node.mode });
        }
        let shared = node.mode & 0o020 != 0 && !self.groups.contains(&node.gid);
        shared.then(|| Doubt::Group { path: path(), group: node.gid, mode: node.mode })
    }
}

/// The group that only user `uid` is in, by the tables of users and groups: it is the user's first group, nobody else's,
/// and lists nobody else as a member.
fn private_group(uid: u32, passwd: &str, group: &str) -> Option<u32> {
    let users: Vec<(&str, u32, u32)> = passwd
        .lines()
        .filter_map(|line| {
            let mut cells = line.split(':');
            let (name, _, uid, gid) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
            Some((name, uid.parse().ok()?, gid.parse().ok()?))
        })
        .collect();
    let (name, _, own) = *users.iter().find(|(_, other, _)| *other == uid)?;
    let alone = users.iter().all(|(_, other, gid)| *other == uid || *gid != own);
    let lines = group.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = cells[..] else { return None };
        (gid.parse() == Ok(own)).then_some(members)
    });
    let members: Vec<&str> = lines.collect();
    let unshared = |members: &&str| members.split(',').all(|member| member.is_empty() || member == name);
    (alone && !members.is_empty() && members.iter().all(unshared)).then_some(own)
}

/// Follows `path` part by part to the file itself: its place without links, and every folder, link and file met on the way
/// there, each once.
fn follow(path: &Path) -> std::io::Result<(PathBuf, Vec<Node>)> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut at = PathBuf::new();
    let mut links = 0;
    let parts = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<OsString>>();
    let mut ahead: VecDeque<OsString> = parts(&std::path::absolute(path)?).into();
    while let Some(part) = ahead.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            None | Some(Component::CurDir) => continue,
            // A root or a name: the root takes the place of what was there.
            Some(_) => at.push(&part),
        }
        let node = look(&at)?;
        if node.kind == Kind::Link {
            links += 1;
            if links > MAX_LINKS {
                return Err(std::io::Error::other(format!("more than {MAX_LINKS} links")));
            }
            let target = std::fs::read_link(&at)?;
            at.pop();
            parts(&target).into_iter().rev().for_each(|part| ahead.push_front(part));
        }
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok((at, nodes))
}

fn look(path: &Path) -> std::io::Result<Node> {
    let found = std::fs::symlink_metadata(path)?;
    let kind = match found.file_type() {
        kind if kind.is_dir() => Kind::Folder,
        kind if kind.is_symlink() => Kind::Link,
        _ => Kind::File,
    };
    #[cfg(unix)]
    let (uid, gid, mode) = {
        use std::os::unix::fs::MetadataExt;
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    #[cfg(not(unix))]
    let (uid, gid, mode) = (0, 0, 0);
    Ok(Node { path: path.to_owned(), kind, uid, gid, mode })
}

/// The place of `file` without links, and what speaks against trusting it and `beside`, the files that it opens in turn.
#[cfg(unix)]
pub(crate) fn examine(file: &Path, beside: &[PathBuf]) -> std::io::Result<(PathBuf, Vec<Doubt>)> {
    let (place, mut nodes) = follow(file)?;
    for other in beside {
        nodes.extend(follow(other)?.1);
    }
    let user = User::current();
    let mut doubts: Vec<Doubt> = Vec::new();
    for doubt in nodes.iter().filter_map(|node| user.doubt(node)) {
        if !doubts.contains(&doubt) {
            doubts.push(doubt);
        }
    }
    Ok((place, doubts))
}

/// The place of `file` without links; rights are not looked at here.
#[cfg(not(unix))]
pub(crate) fn examine(file: &Path, _beside: &[PathBuf]) -> std::io::Result<(PathBuf, Vec<Doubt>)> {
    Ok((file.canonicalize()?, Vec::new()))
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)] // A test that fails here says where.
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    const ALICE: u32 = 1000;

    fn node(kind: Kind, uid: u32, gid: u32, mode: u32) -> Node {
        Node { path: "/x".into(), kind, uid, gid, mode }
    }

    fn doubt(node: Node) -> Option<Doubt> {
        User { uid: ALICE, groups: vec![ALICE] }.doubt(&node)
    }

    #[test]
    fn what_belongs_to_the_user_or_to_root_and_to_nobody_else_is_trusted() {
        for owner in [0, ALICE] {
            assert_eq!(doubt(node(Kind::Folder, owner, 50, 0o755)), None);
            assert_eq!(doubt(node(Kind::File, owner, 50, 0o644)), None);
        }
        let foreign = Doubt::Owner { path: "/x".into(), owner: 1001, user: ALICE };
        for kind in [Kind::Folder, Kind::File, Kind::Link] {
            assert_eq!(doubt(node(kind, 1001, ALICE, 0o700)), Some(foreign.clone()), "{kind:?}");
        }
    }

    #[test]
    fn what_others_can_write_is_not_trusted() {
        for kind in [Kind::Folder, Kind::File] {
            assert!(matches!(doubt(node(kind, ALICE, ALICE, 0o757)), Some(Doubt::Everyone { mode: 0o757, .. })));
            assert!(matches!(doubt(node(kind, 0, 50, 0o775)), Some(Doubt::Group { group: 50, .. })));
        }
    }

    #[test]
    fn a_group_of_the_user_alone_is_the_user() {
        assert_eq!(doubt(node(Kind::Folder, ALICE, ALICE, 0o775)), None);
        assert_eq!(doubt(node(Kind::File, 0, ALICE, 0o664)), None);
    }

    #[test]
    fn a_sticky_folder_is_no_way_in_but_a_sticky_file_is() {
        assert_eq!(doubt(node(Kind::Folder, 0, 0, 0o1777)), None);
        assert_eq!(doubt(node(Kind::Folder, 0, 50, 0o1775)), None);
        assert!(doubt(node(Kind::Folder, 1001, 1001, 0o1777)).is_some(), "its owner can do anything there");
        assert!(doubt(node(Kind::File, ALICE, ALICE, 0o1666)).is_some());
    }

    #[test]
    fn the_mode_of_a_link_means_nothing() {
        assert_eq!(doubt(node(Kind::Link, ALICE, 50, 0o777)), None);
    }

    #[test]
    fn a_private_group_is_nobody_elses() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:100::/:/bin/sh\n\
                      carol:x:1002:100::/:/bin/sh\n";
        let group = "root:x:0:\nusers:x:100:\nalice:x:1000:\n";
        assert_eq!(private_group(1000, passwd, group), Some(1000));
        assert_eq!(private_group(1000, passwd, "alice:x:1000:alice\n"), Some(1000));
        assert_eq!(private_group(1000, passwd, "alice:x:1000:alice,bob\n"), None, "bob is in it");
        assert_eq!(private_group(1001, passwd, group), None, "carol's first group too");
        assert_eq!(private_group(1000, passwd, ""), None, "a group that is not in the table");
        assert_eq!(private_group(1003, passwd, group), None, "an account that is not in the table");
        assert_eq!(private_group(1000, "alice:x:one\n\u{0}", "alice"), None, "tables that are none");
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// `<temporary>/a/b/library`, all of it closed to others.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let library = root.path().join("a/b/library");
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        std::fs::write(&library, "code").unwrap();
        for part in ["a", "a/b"] {
            set(&root.path().join(part), 0o755);
        }
        set(&library, 0o644);
        (root, library)
    }

    fn doubts(path: &Path) -> Vec<Doubt> {
        examine(path, &[]).unwrap().1
    }

    #[test]
    fn the_file_and_every_folder_above_it_count() {
        let (root, library) = tree();
        assert_eq!(doubts(&library), []);
        for (part, closed, open) in [("a", 0o755, 0o757), ("a/b", 0o755, 0o757), ("a/b/library", 0o644, 0o646)] {
            let path = root.path().join(part);
            set(&path, open);
            assert_eq!(doubts(&library).len(), 1, "{part}");
            assert!(doubts(&library)[0].to_string().contains(path.to_str().unwrap()), "{:?}", doubts(&library));
            set(&path, closed);
        }
        set(&root.path().join("a"), 0o1777);
        assert_eq!(doubts(&library), [], "a sticky folder");
    }

    #[test]
    fn both_ends_of_a_link_and_all_between_count() {
        let (root, library) = tree();
        let (open, own) = (root.path().join("open"), root.path().join("own"));
        std::fs::create_dir(&open).unwrap();
        std::fs::create_dir(&own).unwrap();
        symlink("../a/b/library", open.join("link")).unwrap();
        symlink(open.join("link"), own.join("link")).unwrap();
        set(&open, 0o755);
        let (place, none) = examine(&own.join("link"), &[]).unwrap();
        assert_eq!((place, none), (library.canonicalize().unwrap(), vec![]));
        // Only the folder in the middle, which is on neither end's path, is open.
        set(&open, 0o777);
        assert!(matches!(&doubts(&own.join("link"))[..], [Doubt::Everyone { path, .. }] if path.ends_with("open")));
        set(&open, 0o755);
        set(&library, 0o666);
        assert!(matches!(&doubts(&own.join("link"))[..], [Doubt::Everyone { path, .. }] if path.ends_with("library")));
    }

    #[test]
    fn what_lies_beside_the_library_counts_where_it_is_opened_in_turn() {
        let (root, library) = tree();
        let provider = root.path().join("a/b/provider");
        std::fs::write(&provider, "code").unwrap();
        set(&provider, 0o666);
        assert_eq!(doubts(&library), []);
        assert_eq!(examine(&library, &[provider]).unwrap().1.len(), 1);
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let (root, _) = tree();
        symlink("two", root.path().join("one")).unwrap();
        symlink("one", root.path().join("two")).unwrap();
        assert!(examine(&root.path().join("one"), &[]).is_err());
    }

    #[test]
    fn a_foreign_owner_of_file_folder_or_link_is_found() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        for part in ["a", "a/b", "a/b/library"] {
            let (root, library) = tree();
            chown(root.path().join(part), Some(4321), Some(4321)).unwrap();
            assert!(matches!(doubts(&library)[..], [Doubt::Owner { owner: 4321, .. }]), "{part}");
        }
        let (root, library) = tree();
        let link = root.path().join("link");
        symlink(&library, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(4321), None).unwrap();
        assert!(matches!(doubts(&link)[..], [Doubt::Owner { owner: 4321, .. }]));
        let (root, library) = tree();
        chown(root.path().join("a/b"), None, Some(4321)).unwrap();
        set(&root.path().join("a/b"), 0o775);
        assert!(matches!(doubts(&library)[..], [Doubt::Group { group: 4321, .. }]));
    }
}
