//! After a pass the trees are the same, whatever they were before.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mirror::{Action, MirrorOptions};
use proptest::prelude::*;

use crate::scene::{Make, Scene, look, stamp};

/// A random tree: directories, files and links with few names, so that two trees often meet.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    File(Vec<u8>),
    Link(Vec<u8>),
    Dir(Vec<(Vec<u8>, Meta, Node)>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    mode: u32,
    mtime_ns: i64,
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let mode = prop_oneof![Just(0o644), Just(0o600), Just(0o755), Just(0o400), Just(0o000), Just(0o1777)];
    let time = prop_oneof![Just(0), Just(1), Just(-1), 0..4_000_000_000_000_000_000i64];
    (mode, time).prop_map(|(mode, mtime_ns)| Meta { mode, mtime_ns })
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-d]".prop_map(String::into_bytes),
        1 => Just(b"\xff\xfe\n".to_vec()),
        1 => Just("\u{e9}\u{202e}x".as_bytes().to_vec()),
        1 => Just(vec![b'n'; 255]),
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..5).prop_map(Node::File),
        1 => (60_000usize..200_000, any::<u8>()).prop_map(|(n, b)| Node::File(vec![b; n])),
        1 => prop_oneof![Just(b"a".to_vec()), Just(b"/etc".to_vec()), Just(b"\xff".to_vec())].prop_map(Node::Link),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop::collection::vec((any_name(), any_meta(), inner), 0..5).prop_map(Node::Dir)
    })
}

pub(crate) fn any_root() -> impl Strategy<Value = Vec<(Vec<u8>, Meta, Node)>> {
    prop::collection::vec((any_name(), any_meta(), any_node()), 0..6)
}

pub(crate) fn make(at: &Path, nodes: &[(Vec<u8>, Meta, Node)]) {
    for (name, meta, node) in nodes {
        let path: PathBuf = at.join(OsStr::from_bytes(name));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match node {
            Node::File(content) => fs::write(&path, content).unwrap(),
            Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Node::Dir(nodes) => {
                fs::create_dir(&path).unwrap();
                make(&path, nodes);
            }
        }
        stamp(&path, meta.mode, meta.mtime_ns + times_of(node));
    }
}

/// Files of other content have another time, as on a disk where they were written: without a memory and without
/// `--checksum` nothing else tells two of one length and time apart. An empty file's time stays.
fn times_of(node: &Node) -> i64 {
    match node {
        Node::File(content) => content.iter().fold(0, |sum: i64, byte| (sum * 257 + i64::from(*byte) + 1) % 1_000_003),
        Node::Link(_) | Node::Dir(_) => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn m2_1_after_a_pass_both_trees_are_the_same(
        source in any_root(),
        dest in any_root(),
        meta in any_meta(),
        threads in prop_oneof![Just(1), Just(2), Just(5)],
    ) {
        let scene = Scene::new();
        make(&scene.s(""), &source);
        make(&scene.d(""), &dest);
        stamp(&scene.s(""), meta.mode | 0o700, meta.mtime_ns);
        let threads = NonZeroUsize::new(threads);
        let options = || MirrorOptions { allow_mass_delete: true, threads, ..MirrorOptions::default() };

        // A dry run tells the same work and does none of it.
        let before = look(&scene.d(""));
        let (dry, dry_told) = scene.told(MirrorOptions { dry_run: true, ..options() });
        prop_assert_eq!(&before, &look(&scene.d("")));

        let (outcome, told) = scene.told(options());
        prop_assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
        scene.assert_equal();
        let changed = |told: &[(Action, String)]| {
            let mut paths: Vec<_> =
                told.iter().filter(|(a, _)| matches!(a, Action::Copied | Action::Updated)).cloned().collect();
            paths.sort_by(|a, b| a.1.cmp(&b.1));
            paths
        };
        prop_assert_eq!(changed(&dry_told), changed(&told));
        prop_assert_eq!(dry.counts.failed, 0);

        // And there is nothing left to do.
        let (again, told) = scene.told(options());
        prop_assert!(again.is_quiet(), "{:?}", told);
        prop_assert!(told.iter().all(|(action, _)| *action == Action::Skipped));
    }
}

#[test]
fn m2_1_every_kind_becomes_every_kind() {
    for old in Make::ALL {
        for new in Make::ALL {
            let scene = Scene::new();
            fs::write(scene.s("other"), "").unwrap();
            new.at(&scene.s("x"));
            old.at(&scene.d("x"));
            let outcome = scene.run();
            assert!(outcome.problems.is_empty(), "{old:?} into {new:?}: {:?}", outcome.problems);
            scene.assert_equal();
            assert!(scene.run().is_quiet(), "{old:?} into {new:?}");
        }
    }
}

#[test]
fn m2_2_what_is_equal_is_skipped() {
    use std::os::unix::fs::MetadataExt;
    let scene = Scene::new();
    Make::FullDir.at(&scene.s("x"));
    scene.run();
    let inode = |path: &str| fs::metadata(scene.d(path)).map(|m| (m.ino(), m.ctime_nsec())).unwrap();
    let before = (inode("x"), inode("x/a"), inode("x/in/deep/b"));
    let (outcome, _) = scene.told(MirrorOptions::default());
    assert_eq!(before, (inode("x"), inode("x/a"), inode("x/in/deep/b")), "not even metadata was touched");
    assert_eq!(outcome.counts.skipped, 7, "x, a, in, deep, b, l, and the root");
}

#[test]
fn a_directory_too_large_to_hide_is_shown_early_and_finished() {
    let scene = Scene::new();
    fs::create_dir_all(scene.s("x/sub")).unwrap();
    for n in 0..20_500 {
        fs::write(scene.s(&format!("x/sub/{n:05}")), "").unwrap();
    }
    fs::write(scene.s("x/z"), "z").unwrap();
    stamp(&scene.s("x/sub"), 0o555, 5);
    stamp(&scene.s("x"), 0o555, 6);
    let outcome = scene.run();
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    scene.assert_equal();
    stamp(&scene.s("x/sub"), 0o755, 5);
    stamp(&scene.d("x/sub"), 0o755, 5);
    stamp(&scene.s("x"), 0o755, 5);
    stamp(&scene.d("x"), 0o755, 5);
}

#[test]
fn a_checksum_run_sees_what_size_and_time_hide() {
    let scene = Scene::new();
    for (path, content) in [(scene.s("a"), "one"), (scene.d("a"), "two")] {
        fs::write(&path, content).unwrap();
        stamp(&path, 0o644, 77);
    }
    scene.run();
    assert_eq!(fs::read(scene.d("a")).unwrap(), b"two", "without it they count as equal");
    scene.told(MirrorOptions { checksum: true, ..MirrorOptions::default() });
    scene.assert_equal();
}
