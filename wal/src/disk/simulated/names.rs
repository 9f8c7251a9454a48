//! The names of a simulated disk: what a look-up finds, what a power loss would leave, and the
//! changes in between.
//!
//! A created, renamed or removed name is certain once every directory it touches was synced after
//! it. Before, a power loss keeps of each directory's changes a prefix, or in the harsher mode any
//! subset. A rename is atomic, but subject to both directories it touches. A directory that is
//! renamed takes along what is in it; what was not certain inside stays so for good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::is_beneath;
use super::CrashMode;

/// Identifies a file's content whatever its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(pub(super) u32);

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(Inode),
}

/// Decides, for the change with this number, whether a power loss keeps it.
pub(super) trait NameChooser {
    /// How many of a directory's `count` changes, from the oldest, are kept.
    fn prefix(&mut self, count: usize) -> usize;

    /// Whether one change of a subset is kept.
    fn is_kept(&mut self) -> bool;
}

type Names = BTreeMap<Arc<str>, Node>;

/// All names of a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Namespace {
    live: Arc<Names>,
    durable: Arc<Names>,
    pending: Vec<PendingName>,
}

#[derive(Debug, Clone)]
struct PendingName {
    change: Change,
    /// The directories not synced since the change; it is durable when there is none left.
    unsynced: Vec<Arc<str>>,
}

#[derive(Debug, Clone)]
enum Change {
    Create {
        path: Arc<str>,
        node: Node,
    },
    Rename {
        from: Arc<str>,
        to: Arc<str>,
        node: Node,
    },
    RenameDirectory {
        from: Arc<str>,
        to: Arc<str>,
    },
    Remove {
        path: Arc<str>,
        node: Node,
    },
}

impl Namespace {
    /// What `path` leads to.
    pub(super) fn find(&self, path: &str) -> Result<Node, Errno> {
        if path.is_empty() {
            return Ok(Node::Directory);
        }
        if let Some(node) = self.live.get(path) {
            return Ok(*node);
        }
        if !is_beneath(path) {
            return Err(Errno::INVAL);
        }
        match self.find(parent(path)) {
            Ok(Node::File(_)) => Err(Errno::NOTDIR),
            Ok(Node::Directory) | Err(_) => Err(Errno::NOENT),
        }
    }

    /// The file at `path`.
    pub(super) fn find_file(&self, path: &str) -> Result<Inode, Errno> {
        match self.find(path)? {
            Node::File(inode) => Ok(inode),
            Node::Directory => Err(Errno::ISDIR),
        }
    }

    pub(super) fn create(&mut self, path: &str, node: Node) -> Result<(), Errno> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Err(Errno::EXIST),
        }
        self.require_directory(parent(path))?;
        let path: Arc<str> = path.into();
        self.record(Change::Create { path, node });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        let node = Node::File(self.find_file(from)?);
        match self.find(to) {
            Ok(Node::Directory) => return Err(Errno::ISDIR),
            Ok(Node::File(_)) => {}
            Err(Errno::NOENT) => self.require_directory(parent(to))?,
            Err(errno) => return Err(errno),
        }
        if from != to {
            self.record(Change::Rename {
                from: from.into(),
                to: to.into(),
                node,
            });
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> Result<(), Errno> {
        let node = Node::File(self.find_file(path)?);
        self.record(Change::Remove {
            path: path.into(),
            node,
        });
        Ok(())
    }

    pub(super) fn rename_directory(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        self.require_directory(from)?;
        match self.find(to) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Err(Errno::EXIST),
        }
        self.require_directory(parent(to))?;
        if from.is_empty() || is_inside(to, from) {
            return Err(Errno::INVAL);
        }
        self.record(Change::RenameDirectory {
            from: from.into(),
            to: to.into(),
        });
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, path: &str) -> Result<(), Errno> {
        self.require_directory(path)?;
        if path.is_empty() || self.live.keys().any(|name| is_inside(name, path)) {
            return Err(Errno::NOTEMPTY);
        }
        self.record(Change::Remove {
            path: path.into(),
            node: Node::Directory,
        });
        Ok(())
    }

    /// Makes the changes in a directory durable.
    pub(super) fn sync(&mut self, directory: &str) -> Result<(), Errno> {
        self.require_directory(directory)?;
        for pending in &mut self.pending {
            pending.unsynced.retain(|unsynced| **unsynced != *directory);
            if pending.unsynced.is_empty() {
                pending.change.apply(Arc::make_mut(&mut self.durable));
            }
        }
        self.pending.retain(|pending| !pending.unsynced.is_empty());
        Ok(())
    }

    /// The names in a directory.
    pub(super) fn list(&self, directory: &str) -> Result<Vec<String>, Errno> {
        self.require_directory(directory)?;
        let paths = self.live.keys().filter(|path| parent(path) == directory);
        Ok(paths
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect())
    }

    pub(super) fn is_synced(&self) -> bool {
        self.pending.is_empty()
    }

    /// Every name that a look-up finds.
    pub(super) fn live(&self) -> impl Iterator<Item = (&str, Node)> {
        self.live.iter().map(|(path, node)| (&**path, *node))
    }

    /// Every file that a name leads to, would lead to after a power loss, or may.
    pub(super) fn reachable(&self) -> BTreeSet<Inode> {
        let pending = self.pending.iter().map(|pending| pending.change.node());
        let named = self.live.values().chain(self.durable.values()).copied();
        let file = |node| {
            if let Node::File(inode) = node {
                Some(inode)
            } else {
                None
            }
        };
        named.chain(pending).filter_map(file).collect()
    }

    /// Adds a name, and the directories above it, as if it had been durable for long.
    pub(super) fn insert_durable(&mut self, path: &str, node: Node) {
        for (cut, _) in path.match_indices('/') {
            let above: Arc<str> = path.get(..cut).unwrap_or_default().into();
            Arc::make_mut(&mut self.live)
                .entry(above.clone())
                .or_insert(Node::Directory);
            Arc::make_mut(&mut self.durable)
                .entry(above)
                .or_insert(Node::Directory);
        }
        Arc::make_mut(&mut self.live).insert(path.into(), node);
        Arc::make_mut(&mut self.durable).insert(path.into(), node);
    }

    /// Takes a name away as if it had been gone for long.
    pub(super) fn remove_durable(&mut self, path: &str) {
        Arc::make_mut(&mut self.live).remove(path);
        Arc::make_mut(&mut self.durable).remove(path);
    }

    /// What is left of the names after a power loss.
    pub(super) fn after_power_loss(&self, mode: CrashMode, chooser: &mut dyn NameChooser) -> Self {
        let mut left = self.durable.clone();
        if !self.pending.is_empty() {
            let names = Arc::make_mut(&mut left);
            match mode {
                CrashMode::Prefix => self.keep_prefixes(names, chooser),
                CrashMode::Subset => {
                    for pending in &self.pending {
                        if chooser.is_kept() {
                            pending.change.apply(names);
                        }
                    }
                }
            }
            remove_unreachable(names);
        }
        Self {
            live: left.clone(),
            durable: left,
            pending: Vec::new(),
        }
    }

    fn keep_prefixes(&self, names: &mut Names, chooser: &mut dyn NameChooser) {
        let mut kept_count: BTreeMap<&str, usize> = BTreeMap::new();
        for directory in self.pending.iter().flat_map(|pending| &pending.unsynced) {
            *kept_count.entry(directory).or_default() += 1;
        }
        for count in kept_count.values_mut() {
            *count = chooser.prefix(*count).min(*count);
        }
        for pending in &self.pending {
            let is_kept = pending
                .unsynced
                .iter()
                .all(|directory| kept_count.get(&**directory).is_some_and(|count| *count > 0));
            for directory in &pending.unsynced {
                // One directory that lost the change loses its later ones with it.
                let count = kept_count.entry(directory).or_default();
                *count = if is_kept { *count - 1 } else { 0 };
            }
            if is_kept {
                pending.change.apply(names);
            }
        }
    }

    fn require_directory(&self, path: &str) -> Result<(), Errno> {
        match self.find(path)? {
            Node::Directory => Ok(()),
            Node::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn record(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.live));
        let unsynced = change.directories();
        self.pending.push(PendingName { change, unsynced });
    }
}

impl Change {
    fn node(&self) -> Node {
        match self {
            Self::Create { node, .. } | Self::Rename { node, .. } | Self::Remove { node, .. } => {
                *node
            }
            Self::RenameDirectory { .. } => Node::Directory,
        }
    }

    fn directories(&self) -> Vec<Arc<str>> {
        match self {
            Self::Create { path, .. } | Self::Remove { path, .. } => vec![parent(path).into()],
            Self::Rename { from, to, .. } | Self::RenameDirectory { from, to }
                if parent(from) == parent(to) =>
            {
                vec![parent(from).into()]
            }
            Self::Rename { from, to, .. } | Self::RenameDirectory { from, to } => {
                vec![parent(from).into(), parent(to).into()]
            }
        }
    }

    /// Applies it to names among which earlier changes may be missing.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create { path, node } => {
                names.insert(path.clone(), *node);
            }
            Self::Rename { from, to, node } => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
            Self::RenameDirectory { from, to } => {
                let is_moved = |path: &Arc<str>| is_inside(path, from);
                let moved: Vec<_> = names
                    .keys()
                    .filter(|path| is_moved(path))
                    .cloned()
                    .collect();
                for path in moved {
                    let rest = path.strip_prefix(&**from).unwrap_or_default();
                    let path_now: Arc<str> = format!("{to}{rest}").into();
                    if let Some(node) = names.remove(&path) {
                        names.insert(path_now, node);
                    }
                }
                names.remove(from);
                names.insert(to.clone(), Node::Directory);
            }
            Self::Remove { path, node } => {
                if names.get(path) == Some(node) {
                    names.remove(path);
                }
            }
        }
    }
}

/// Whether `path` lies below `directory`.
fn is_inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// The directory that holds `path`.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Drops names whose directory was lost.
fn remove_unreachable(names: &mut Names) {
    loop {
        let is_lost = |path: &str| {
            let parent = parent(path);
            !parent.is_empty() && names.get(parent) != Some(&Node::Directory)
        };
        let lost: Vec<_> = names.keys().filter(|path| is_lost(path)).cloned().collect();
        if lost.is_empty() {
            return;
        }
        for path in lost {
            names.remove(&path);
        }
    }
}
