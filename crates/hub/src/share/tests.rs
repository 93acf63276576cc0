//! The scanner against real directories, looked at by plain file calls.

mod behind;
mod moved;
mod unknown;

use super::contents::{Contents, Supply};
use super::facts::Facts;
use super::roots::Roots;
use super::scan::{Counts, Looked, Scanner};
use board::{Board, Durability, Meta, OpenOptions, Record, SqliteStore, Store, StoreError, Writer};
use mirror::dirty::{Dirty, Hint};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tree::at::Dir;
use tree::{ContentId, Entry, Name, RelPath, RootHash};

/// A store whose commits fail while `blown` is set: a full disk.
struct Fuse {
    store: SqliteStore,
    blown: Arc<AtomicBool>,
}

impl Store for Fuse {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<Meta, StoreError> {
        self.store.load(each)
    }

    fn commit(&mut self, records: &[Record], forget: &[board::Name], meta: Option<&Meta>) -> Result<(), StoreError> {
        if self.blown.load(Ordering::Relaxed) {
            return Err(StoreError::Damaged { path: "the fuse".into(), what: "it was blown".into() });
        }
        self.store.commit(records, forget, meta)
    }
}

struct Scene {
    scratch: tempfile::TempDir,
    blown: Arc<AtomicBool>,
    scanner: Scanner,
    board: Board,
    contents: Arc<Contents>,
    roots: Arc<Roots>,
    counts: Arc<Counts>,
}

impl Scene {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("share")).unwrap();
        fs::create_dir_all(scratch.path().join("spool")).unwrap();
        Self::open(scratch)
    }

    fn open(scratch: tempfile::TempDir) -> Self {
        let store = SqliteStore::open(scratch.path().join("index.db"), Durability::Process).unwrap();
        let blown = Arc::new(AtomicBool::new(false));
        let store = Fuse { store, blown: Arc::clone(&blown) };
        let mut seed = 7_u64;
        let entropy = Box::new(move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed
        });
        let options = OpenOptions { durable: true, boot_id: "boot".into(), entropy };
        let writer = Writer::open(Box::new(store), options).unwrap();
        let board = writer.board();
        let share = scratch.path().join("share");
        let root = Dir::open_root(&share).unwrap();
        let spool = Dir::open_root(&scratch.path().join("spool")).unwrap();
        let contents = Arc::new(Contents::new(Dir::open_root(&share).unwrap(), spool, board.clone()));
        let roots = Arc::new(Roots::default());
        let counts = Arc::new(Counts::default());
        let scanner = Scanner::new(
            root,
            &share,
            writer,
            Arc::clone(&contents),
            Arc::clone(&roots),
            Arc::clone(&counts),
            Vec::new(),
        );
        Self { scratch, blown, scanner, board, contents, roots, counts }
    }

    /// As after a restart of the hub.
    fn restarted(self) -> Self {
        let Self { scratch, scanner, .. } = self;
        scanner.close().unwrap();
        Self::open(scratch)
    }

    fn share(&self) -> PathBuf {
        self.scratch.path().join("share")
    }

    fn look(&mut self) -> Looked {
        self.scanner.look(&Dirty::everything(), |_, _| false, false).unwrap()
    }

    /// What an event on one name leads to.
    fn event(&mut self, dir: &str, name: &str, removed: bool) -> Looked {
        let (dir, name) = (RelPath::new(dir.as_bytes()).unwrap(), Name::new(name.as_bytes()).unwrap());
        let mut dirty = Dirty::new();
        dirty.insert(&dir, &name, Hint { content: true, by_event: true });
        if removed {
            dirty.insert_removed(&dir, &name);
        }
        self.scanner.look(&dirty, |_, _| false, false).unwrap()
    }

    /// Whether the whole of what the board says of the large file `name` can be had.
    fn serves(&self, name: &str) -> bool {
        let on_board = self.on_board();
        let Some((content, size)) = on_board.get(name.as_bytes()).and_then(Entry::content) else { return false };
        let Supply::Recipe(recipe) = self.contents.get(&content.0) else { return false };
        let all: Vec<u32> = (0..u32::try_from(recipe.len()).unwrap()).collect();
        let got: Vec<u8> = self.contents.chunks(&content.0, &all).into_iter().flat_map(|(_, bytes)| bytes).collect();
        if got.len() as u64 == size {
            assert_eq!(ContentId::of(&got), content);
        }
        size >= 4 << 20 && got.len() as u64 == size
    }

    fn on_board(&self) -> BTreeMap<Vec<u8>, Entry> {
        self.board.read(|index| {
            index.iter_from(b"").map(|r| (r.name.to_vec(), Entry::decode(r.value.as_ref().unwrap()).unwrap())).collect()
        })
    }

    /// The board is the directory, and its root is the sum of its entries.
    fn assert_same(&self) {
        let mut disk = BTreeMap::new();
        walk(&self.share(), &RelPath::root(), &mut disk);
        assert_eq!(self.on_board(), disk);
        let mut root = RootHash::default();
        for (name, entry) in &disk {
            root.add(&RelPath::new(name.as_slice()).unwrap(), &entry.to_bytes());
        }
        assert_eq!(self.roots.at(self.board.head()), Some(root));
    }
}

fn walk(root: &Path, path: &RelPath, found: &mut BTreeMap<Vec<u8>, Entry>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let full = root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let meta = full.symlink_metadata().unwrap();
    let (mode, mtime_ns) = (meta.mode() & 0o1777, meta.mtime() * 1_000_000_000 + meta.mtime_nsec());
    let entry = if meta.is_dir() {
        for entry in fs::read_dir(&full).unwrap() {
            let name = Name::new(entry.unwrap().file_name().into_vec()).unwrap();
            walk(root, &path.join(&name).unwrap(), found);
        }
        Entry::Dir { mode, mtime_ns }
    } else if meta.is_symlink() {
        Entry::Link { mtime_ns, target: fs::read_link(&full).unwrap().into_os_string().into_vec().into() }
    } else {
        let content = fs::read(&full).unwrap();
        Entry::File { mode, mtime_ns, size_bytes: content.len() as u64, content: ContentId::of(&content) }
    };
    found.insert(path.as_bytes().to_vec(), entry);
}

#[test]
fn every_kind_into_every_kind_ends_on_the_board() {
    let kinds: [fn(&Path); 7] = [
        |_| {},
        |p| fs::write(p, "content").unwrap(),
        |p| fs::write(p, "").unwrap(),
        |p| {
            fs::write(p, "#!").unwrap();
            fs::set_permissions(p, fs::Permissions::from_mode(0o755)).unwrap();
        },
        |p| fs::create_dir(p).unwrap(),
        |p| {
            fs::create_dir_all(p.join("a/b")).unwrap();
            fs::write(p.join("a/b/c"), "deep").unwrap();
            fs::write(p.join("a-b"), "sorts between a and a/b").unwrap();
        },
        |p| symlink("nowhere", p).unwrap(),
    ];
    for from in kinds {
        for to in kinds {
            let mut scene = Scene::new();
            let path = scene.share().join("x");
            from(&path);
            scene.look();
            scene.assert_same();
            match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                Err(_) => {}
            }
            to(&path);
            // As the watcher would tell it, so that an emptied share is not held.
            scene.event("", "x", true);
            scene.assert_same();
        }
    }
}

#[test]
fn what_the_index_knows_is_not_read_again_and_survives_a_restart() {
    let mut scene = Scene::new();
    fs::create_dir(scene.share().join("d")).unwrap();
    fs::write(scene.share().join("d/f"), "content").unwrap();
    scene.look();
    let head = scene.board.head();
    scene.look();
    assert_eq!(scene.board.head(), head);
    let mut scene = scene.restarted();
    scene.look();
    assert_eq!(scene.board.head(), head, "nothing changed, so nothing is new");
    scene.assert_same();
}

#[test]
fn m3_7_another_content_under_the_old_stat_is_seen_when_an_event_names_it() {
    let mut scene = Scene::new();
    let path = scene.share().join("f");
    fs::write(&path, "one").unwrap();
    scene.look();
    let modified = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    scene.event("", "f", false);
    scene.assert_same();
}

#[test]
fn removals_that_nobody_saw_are_held_when_they_look_like_an_accident() {
    let mut scene = Scene::new();
    for n in 0..1100 {
        fs::write(scene.share().join(format!("f{n}")), "").unwrap();
    }
    scene.look();
    for n in 0..1050 {
        fs::remove_file(scene.share().join(format!("f{n}"))).unwrap();
    }
    let looked = scene.look();
    let held = looked.held.expect("more than 1,000 and more than half");
    assert_eq!(held.count, 1050);
    assert_eq!(scene.board.len(), 1101);
    let allowed = scene.scanner.look(&Dirty::everything(), |_, _| false, true).unwrap();
    assert_eq!(allowed.held, None);
    scene.assert_same();
}

#[test]
fn three_of_ten_go_without_a_question_and_what_events_reported_always() {
    let mut scene = Scene::new();
    for n in 0..10 {
        fs::write(scene.share().join(format!("f{n}")), "").unwrap();
    }
    scene.look();
    for n in 0..3 {
        fs::remove_file(scene.share().join(format!("f{n}"))).unwrap();
    }
    assert_eq!(scene.look().held, None);
    scene.assert_same();
    for n in 3..10 {
        fs::remove_file(scene.share().join(format!("f{n}"))).unwrap();
        assert_eq!(scene.event("", &format!("f{n}"), true).held, None);
    }
    scene.assert_same();
}

#[test]
fn an_emptied_share_holds_what_nobody_saw_go() {
    let mut scene = Scene::new();
    fs::write(scene.share().join("f"), "").unwrap();
    scene.look();
    fs::remove_file(scene.share().join("f")).unwrap();
    assert_eq!(scene.look().held.expect("it is empty now").count, 1);
    assert_eq!(scene.board.len(), 2);
}

#[test]
fn a_share_that_was_moved_away_deletes_nothing() {
    let mut scene = Scene::new();
    fs::write(scene.share().join("f"), "").unwrap();
    fs::write(scene.share().join("g"), "").unwrap();
    scene.look();
    let away = scene.scratch.path().join("away");
    fs::rename(scene.share(), &away).unwrap();
    fs::create_dir(scene.share()).unwrap();
    fs::remove_file(away.join("f")).unwrap();
    let looked = scene.event("", "f", true);
    assert_eq!(looked.held.expect("it is not in its place").count, 1);
    assert_eq!(scene.board.len(), 3);
    // Put back: what was removed meanwhile is one of two, which is no accident.
    fs::remove_dir(scene.share()).unwrap();
    fs::rename(&away, scene.share()).unwrap();
    assert_eq!(scene.look().held, None);
    scene.assert_same();
}

#[test]
fn another_directory_in_its_place_sends_nothing_until_that_is_allowed() {
    let mut scene = Scene::new();
    for n in 0..4 {
        fs::write(scene.share().join(format!("f{n}")), "").unwrap();
    }
    scene.look();
    let away = scene.scratch.path().join("away");
    fs::rename(scene.share(), &away).unwrap();
    fs::create_dir(scene.share()).unwrap();
    fs::write(scene.share().join("f0"), "changed").unwrap();
    fs::write(scene.share().join("new"), "new").unwrap();
    let (head, before) = (scene.board.head(), scene.board.get(b"f0"));
    let mut scene = scene.restarted();
    for _ in 0..2 {
        let held = scene.look().held.expect("also on the second look, and after the next restart");
        assert!(held.is_everything() && held.why.contains("another one, and holds 2 entries"), "{}", held.why);
        // An event in it is no news of the share either.
        assert!(scene.event("", "new", false).held.is_some_and(|held| held.is_everything()));
        assert_eq!((scene.board.head(), scene.board.get(b"f0")), (head, before.clone()));
        scene = scene.restarted();
    }
    scene.scanner.look(&Dirty::everything(), |_, _| false, true).unwrap();
    scene.assert_same();
    assert_eq!(scene.look().held, None, "it is the shared directory now");
    // The one of before is the other one from here on.
    fs::rename(scene.share(), scene.scratch.path().join("second")).unwrap();
    fs::rename(away, scene.share()).unwrap();
    let mut scene = scene.restarted();
    assert!(scene.look().held.is_some_and(|held| held.is_everything()));
}

#[test]
fn a_root_is_known_by_the_id_of_its_file_system_and_where_that_changed_by_its_last_change() {
    let scene = Scene::new();
    let stat = Dir::open_root(&scene.share()).unwrap().stat_self().unwrap();
    let pinned = Facts::of(&stat);
    assert!(pinned.same_directory(&Facts::of(&tree::Stat { ctime_ns: stat.ctime_ns + 1, ..stat })));
    // As XFS after a boot at which its device got another number.
    let renumbered = tree::Stat { dev: stat.dev + 1, ..stat };
    assert!(pinned.same_directory(&Facts::of(&renumbered)));
    for other in [
        tree::Stat { ctime_ns: stat.ctime_ns + 1, ..renumbered },
        tree::Stat { ino: stat.ino + 1, ..renumbered },
        tree::Stat { ino: stat.ino + 1, ..stat },
    ] {
        assert!(!pinned.same_directory(&Facts::of(&other)), "{other:?}");
    }
}

#[test]
fn a_root_in_memory_is_a_new_one_after_each_boot_and_the_share_all_the_same() {
    let scene = Scene::new();
    let stat = Dir::open_root(&scene.share()).unwrap().stat_self().unwrap();
    let (tmpfs, overlay) = (tree::at::FLEETING[0], tree::at::FLEETING[2]);
    let new = tree::Stat { dev: stat.dev + 1, ctime_ns: stat.ctime_ns + 1, ..stat };
    let of = |stat: &tree::Stat, kind: Option<u32>, mount_point: bool| {
        let facts = Facts::of_root(&tree::Stat { mount_point, ..*stat }, kind);
        assert_eq!(facts.mount_point(), mount_point);
        Facts::from_bytes(&facts.to_bytes()).unwrap()
    };
    for mounted in [false, true] {
        assert!(of(&new, Some(tmpfs), mounted).follows(&of(&stat, Some(tmpfs), mounted)));
        // Of another kind, of one that stays, or of one that was not noted.
        for (was, now) in [(Some(tmpfs), Some(overlay)), (Some(tmpfs), None), (None, Some(tmpfs)), (None, None)] {
            assert!(!of(&new, now, mounted).follows(&of(&stat, was, mounted)), "{was:?} {now:?}");
        }
        // Another directory of the same one.
        let beside = tree::Stat { ino: stat.ino + 1, ..stat };
        assert!(!of(&beside, Some(tmpfs), mounted).follows(&of(&stat, Some(tmpfs), mounted)));
    }
    // Nothing is mounted there any more.
    assert!(!of(&new, Some(tmpfs), false).follows(&of(&stat, Some(tmpfs), true)));
}

#[test]
fn what_cannot_be_shared_is_told_and_nothing_else_suffers() {
    let mut scene = Scene::new();
    fs::write(scene.share().join("f"), "").unwrap();
    fs::write(scene.share().join(".lockstep-tmp-0123456789abcdef"), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.share().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    scene.look();
    let problems: Vec<String> = scene.scanner.problems().keys().map(ToString::to_string).collect();
    assert_eq!(problems, [".lockstep-tmp-0123456789abcdef", "fifo"]);
    assert_eq!(scene.on_board().keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b""[..], b"f"]);
    fs::remove_file(scene.share().join("fifo")).unwrap();
    scene.event("", "fifo", true);
    assert_eq!(scene.scanner.problems().len(), 1, "what is gone is no problem");
}

#[test]
fn names_that_are_left_alone_keep_what_the_board_has() {
    let mut scene = Scene::new();
    fs::write(scene.share().join("f"), "one").unwrap();
    fs::write(scene.share().join("g"), "one").unwrap();
    scene.look();
    fs::write(scene.share().join("f"), "two, half writ").unwrap();
    fs::remove_file(scene.share().join("g")).unwrap();
    let before = scene.on_board();
    scene.scanner.look(&Dirty::everything(), |path, _| path.as_bytes() != b"", false).unwrap();
    let after = scene.on_board();
    assert_eq!((&before[&b"f"[..]], &before[&b"g"[..]]), (&after[&b"f"[..]], &after[&b"g"[..]]));
}

#[test]
fn a_content_is_served_while_the_disk_says_what_it_said_and_not_a_moment_longer() {
    let mut scene = Scene::new();
    let path = scene.share().join("f");
    let large = vec![7; wire::limits::CONTENT_WHOLE_BYTES_MAX + 1];
    fs::write(&path, &large).unwrap();
    scene.look();
    let id = ContentId::of(&large).0;
    let Supply::Recipe(recipe) = scene.contents.get(&id) else { panic!("it is larger than a frame") };
    let all: Vec<u32> = (0..u32::try_from(recipe.len()).unwrap()).collect();
    let got: Vec<u8> = scene.contents.chunks(&id, &all).into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(got, large);
    fs::write(&path, "other").unwrap();
    assert!(scene.contents.chunks(&id, &all).is_empty());
    assert!(matches!(scene.contents.get(&[9; 32]), Supply::Gone));
}

#[test]
fn a_file_that_is_never_still_is_copied_once_and_that_copy_is_published() {
    let mut scene = Scene::new();
    let path = scene.share().join("log");
    fs::write(&path, vec![b'x'; 4 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            use std::io::Write;
            let mut file = fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"y").unwrap();
            }
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(240);
        // Where the writer was held up a reading may have been whole, and is gone with the next byte: that is no copy.
        while !scene.serves("log") {
            assert!(std::time::Instant::now() < deadline, "nothing that lasts was published");
            scene.event("", "log", false);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Once it is still, its own state goes out.
    scene.event("", "log", false);
    scene.assert_same();
}

#[test]
fn a_commit_that_fails_changes_nothing_and_the_next_look_finds_all_of_it() {
    let mut scene = Scene::new();
    fs::write(scene.share().join("stays"), "stays").unwrap();
    fs::write(scene.share().join("goes"), "goes").unwrap();
    scene.look();
    let (head, before) = (scene.board.head(), scene.on_board());
    fs::remove_file(scene.share().join("goes")).unwrap();
    fs::write(scene.share().join("comes"), "comes").unwrap();
    scene.blown.store(true, Ordering::Relaxed);
    assert!(scene.scanner.look(&Dirty::everything(), |_, _| false, false).is_err());
    assert_eq!((scene.board.head(), scene.on_board()), (head, before));
    assert!(matches!(scene.contents.get(&ContentId::of(b"stays").0), Supply::Whole(_)));
    scene.blown.store(false, Ordering::Relaxed);
    scene.look();
    scene.assert_same();
}

#[test]
fn facts_survive_their_bytes_and_nothing_else_is_taken_for_facts() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = Dir::open_root(scratch.path()).unwrap();
    let facts = Facts::of(&dir.stat_self().unwrap());
    assert_eq!(Facts::from_bytes(&facts.to_bytes()), Some(facts));
    for bytes in [&b""[..], &[0; 39], &[0; 41], &[0; 48]] {
        assert_eq!(Facts::from_bytes(bytes), None);
    }
}
