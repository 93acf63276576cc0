//! Real directories, the real kernel. A scene writes with plain file calls and asks what became due.

mod scene;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;
pub(super) use scene::Hooks;
use scene::{Scene, covers, exchange, name, named, path, walk};

/// Longest wait for anything. Reached only by a failing test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tries of the race of a new directory against its watch.
const RACE_TRIES: usize = 100;

/// How long a file is read while it changes.
const READING: Duration = Duration::from_secs(2);

#[test]
fn a_closed_file_is_due_by_its_name_and_its_content() {
    let scene = Scene::new(|_| ());
    scene.write("f", "one");
    let due = scene.all_due();
    assert!(due.dirty.hint(&RelPath::root(), &name("f")).content);
    assert!(named(&due, "f") && !due.dirty.removed_by_event(&path("f")));
    scene.no_dirt_of();
}

#[test]
fn what_stood_there_before_is_not_due() {
    let scene = Scene::new(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/f"), "").unwrap();
    });
    scene.no_dirt_of();
    scene.write("a/b/f", "two");
    assert!(named(&scene.all_due(), "a/b/f"));
}

/// Nested directories made in a tight loop; returns how many tries missed something.
fn nested_mkdir_race(tries: usize, lists_first: bool) -> usize {
    let scene = Scene::new(|_| ());
    scene.hooks().race.store(true, Ordering::SeqCst);
    scene.hooks().lists_first.store(lists_first, Ordering::SeqCst);
    let mut missed = 0;
    for i in 0..tries {
        let mut at = scene.root().join(format!("d{i}"));
        fs::create_dir(&at).unwrap();
        for part in ["a", "b", "c", "d", "e"] {
            at.push(part);
            fs::create_dir(&at).unwrap();
        }
        fs::write(at.join("f"), "x").unwrap();
        let due = scene.all_due();
        missed += usize::from(!covers(&due, &format!("d{i}/a/b/c/d/e/f")));
    }
    missed
}

#[test]
fn m2_7_nested_directories_made_at_once_miss_nothing() {
    assert_eq!(nested_mkdir_race(RACE_TRIES, false), 0);
}

/// On a busy machine the watcher may sleep through many a try, so the known-bad order is given a time, not a count.
#[test]
fn canary_listing_before_watching_misses_something() {
    let give_up = Instant::now() + PATIENCE;
    while nested_mkdir_race(RACE_TRIES, true) == 0 {
        assert!(Instant::now() < give_up, "the race test would not notice a watcher that lists first");
    }
}

#[test]
fn m2_7_a_burst_like_a_clone_is_due_to_the_last_name() {
    let scene = Scene::new(|_| ());
    let root = scene.root();
    let writer = std::thread::spawn(move || {
        for d in 0..60 {
            let dir = root.join(format!("repo/{}/{d}", d % 7));
            fs::create_dir_all(&dir).unwrap();
            for f in 0..30 {
                let lock = dir.join(format!("{f}.lock"));
                fs::write(&lock, "content").unwrap();
                fs::rename(&lock, dir.join(f.to_string())).unwrap();
            }
        }
    });
    let mut all = scene.until(|_| writer.is_finished());
    writer.join().unwrap();
    all.dirty.merge(scene.all_due().dirty);
    assert_eq!(all.news, []);
    for found in walk(&scene.root()) {
        assert!(covers(&all, &found), "{found}");
    }
}

#[test]
fn a_renamed_directory_has_its_new_path_at_once() {
    let scene = Scene::new(|root| fs::create_dir_all(root.join("a/x/y")).unwrap());
    for i in 0..200 {
        let (old, new) = if i % 2 == 0 { ("a", "b") } else { ("b", "a") };
        scene.rename(old, new);
        scene.write(&format!("{new}/x/y/f{i}"), "x");
        let due = scene.all_due();
        assert!(covers(&due, &format!("{new}/x/y/f{i}")), "{due:#?}");
        assert!(covers(&due, old) && due.dirty.removed_by_event(&path(&format!("{old}/x"))));
        assert!(due.dirty.iter().all(|(dir, _)| !dir.starts_with(&path(old))), "{due:#?}");
    }
    scene.write("a/x/y/last", "x");
    let due = scene.all_due();
    assert!(named(&due, "a/x/y/last") && due.dirty.len() == 2, "the watches were kept: {due:#?}");
}

#[test]
fn an_open_file_in_a_renamed_directory_is_due_under_its_new_path() {
    use std::io::Write;
    let scene = Scene::new(|root| fs::create_dir_all(root.join("a")).unwrap());
    let mut file = fs::File::create(scene.root().join("a/f")).unwrap();
    file.write_all(b"1").unwrap();
    scene.rename("a", "b");
    file.write_all(b"2").unwrap();
    drop(file);
    let due = scene.all_due();
    assert!(covers(&due, "b/f") && due.dirty.hint(&path("b"), &name("f")).content, "{due:#?}");
}

#[test]
fn a_directory_that_left_the_tree_says_nothing_more_and_comes_back_whole() {
    let scene = Scene::new(|root| fs::create_dir_all(root.join("a/x/y")).unwrap());
    let away = scene.outside().join("a");
    fs::rename(scene.root().join("a"), &away).unwrap();
    let due = scene.all_due();
    assert!(due.dirty.removed_by_event(&path("a/x/y")), "{due:#?}");
    // A move may yet come to an end within the tree, so it is waited for a moment: until then this is told.
    let deadline = Instant::now() + PATIENCE;
    let told = || {
        fs::write(away.join("x/y/f"), "x").unwrap();
        !scene.all_due().dirty.is_empty()
    };
    while told() {
        assert!(Instant::now() < deadline, "it is still told of");
    }
    fs::create_dir(away.join("x/z")).unwrap();
    scene.no_dirt_of();
    fs::rename(&away, scene.root().join("c")).unwrap();
    scene.write("c/x/z/g", "x");
    let due = scene.all_due();
    for found in ["c", "c/x", "c/x/y", "c/x/y/f", "c/x/z", "c/x/z/g"] {
        assert!(covers(&due, found), "{found} in {due:#?}");
    }
    scene.write("c/x/y/h", "x");
    assert!(named(&scene.all_due(), "c/x/y/h"));
}

#[test]
fn exchanged_directories_have_each_others_paths() {
    let scene = Scene::new(|root| {
        fs::create_dir_all(root.join("a/x")).unwrap();
        fs::create_dir_all(root.join("b/y")).unwrap();
    });
    for i in 0..50 {
        exchange(&scene.root().join("a"), &scene.root().join("b"));
        let due = scene.all_due();
        for found in ["a", "b", "a/x", "b/y"] {
            assert!(covers(&due, found), "{found} in {due:#?}");
        }
        let (at_a, at_b) = if i % 2 == 0 { ("y", "x") } else { ("x", "y") };
        scene.write(&format!("a/{at_a}/f"), "x");
        scene.write(&format!("b/{at_b}/g"), "x");
        let due = scene.all_due();
        let wrong = named(&due, "a/x/g") || named(&due, "a/y/g") || named(&due, "b/x/f") || named(&due, "b/y/f");
        assert!(named(&due, &format!("a/{at_a}/f")) && named(&due, &format!("b/{at_b}/g")) && !wrong, "{due:#?}");
    }
}

/// The oracle for paths: after any storm of directory operations, a write in each directory is due under the path
/// that directory has.
#[test]
fn after_a_storm_of_renames_no_path_is_stale() {
    let seed = std::env::var("LOCKSTEP_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}; repeat with LOCKSTEP_SEED={seed}");
    let rounds = if std::env::var_os("LOCKSTEP_SOAK").is_some() { 400 } else { 12 };
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % n
    };
    let scene = Scene::new(|root| {
        for i in 0..4 {
            fs::create_dir_all(root.join(format!("d{i}/e/f"))).unwrap();
        }
    });
    for round in 0..rounds {
        for _ in 0..60 {
            scene.mkdir("never-empty/e");
            let dirs: Vec<String> = walk(&scene.root()).into_iter().filter(|p| scene.root().join(p).is_dir()).collect();
            let pick = |n: usize| scene.root().join(&dirs[n % dirs.len()]);
            // Many of these fail, as a directory into itself; that is part of the storm.
            let (a, b) = (below(1000), below(1000));
            match below(6) {
                0 => drop(fs::create_dir(pick(a).join(format!("n{}", b % 5)))),
                1 => drop(fs::rename(pick(a), pick(b).join(format!("m{}", a % 5)))),
                2 => drop(fs::rename(pick(a), scene.root().join(format!("d{}", b % 6)))),
                3 => drop(renameat_with(CWD, pick(a), CWD, pick(b), RenameFlags::EXCHANGE)),
                4 => drop(fs::rename(pick(a), scene.outside().join(format!("o{}", b % 4)))),
                _ => drop(fs::rename(scene.outside().join(format!("o{}", b % 4)), pick(a).join(format!("i{}", b % 3)))),
            }
        }
        let _storm = scene.all_due();
        let dirs: Vec<String> = walk(&scene.root()).into_iter().filter(|p| scene.root().join(p).is_dir()).collect();
        for (i, dir) in dirs.iter().enumerate() {
            scene.write(&format!("{dir}/probe-{round}-{i}"), "x");
        }
        let due = scene.all_due();
        for (i, dir) in dirs.iter().enumerate() {
            let probe = name(&format!("probe-{round}-{i}"));
            assert!(due.dirty.covers(&path(dir), &probe), "round {round}: {dir} said nothing: {due:#?}");
            for (other, look) in due.dirty.iter() {
                let stale = *other != path(dir) && look.names.contains_key(&probe);
                assert!(!stale, "round {round}: {dir} was called {other}");
            }
        }
    }
}

#[test]
fn lost_events_make_everything_due_and_the_watch_goes_on() {
    let scene = Scene::new(|root| fs::create_dir_all(root.join("a/x")).unwrap());
    scene.hooks().paused.store(true, Ordering::SeqCst);
    let queue = super::limits::limit("max_queued_events").unwrap();
    for i in 0..queue / 2 + 100 {
        // Two names in turn, so that the kernel cannot merge what is equal to its last event.
        scene.write("one", "x");
        scene.write(if i % 2 == 0 { "two" } else { "three" }, "x");
    }
    // All this is lost: the queue is full.
    scene.mkdir("new/deep");
    scene.rename("a", "b");
    scene.hooks().paused.store(false, Ordering::SeqCst);
    let due = scene.until(|due| due.dirty.covers(&path("b/x"), &name("any")));
    assert!(due.news.contains(&News::Overflow), "{:?}", due.news);
    assert!(due.dirty.removed_by_event(&path("a/x")), "an overflow may have hidden a removal");
    let _rest = scene.all_due();
    scene.write("b/x/f", "x");
    scene.write("new/deep/f", "x");
    let due = scene.all_due();
    assert!(named(&due, "b/x/f") && named(&due, "new/deep/f"), "{due:#?}");
    assert!(!due.news.contains(&News::Overflow));
}

#[test]
fn every_way_to_change_a_name_makes_it_due() {
    use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat};
    let scene = Scene::new(|root| {
        for f in ["linked", "over", "new", "mode", "cut", "gone", "times"] {
            fs::write(root.join(f), "content").unwrap();
        }
    });
    let root = scene.root();
    fs::hard_link(root.join("linked"), root.join("second")).unwrap();
    let due = scene.all_due();
    assert!(named(&due, "second"), "{due:#?}");
    let unnamed = openat(CWD, &root, OFlags::TMPFILE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&unnamed, b"x").unwrap();
    linkat(
        CWD,
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&unnamed)),
        CWD,
        root.join("whole"),
        AtFlags::SYMLINK_FOLLOW,
    )
    .unwrap();
    drop(unnamed);
    assert!(named(&scene.all_due(), "whole"));
    fs::rename(root.join("new"), root.join("over")).unwrap();
    let due = scene.all_due();
    assert!(named(&due, "over") && named(&due, "new") && due.dirty.hint(&RelPath::root(), &name("over")).content);
    symlink("nowhere", root.join("link")).unwrap();
    assert!(named(&scene.all_due(), "link"));
    fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    let due = scene.all_due();
    assert!(named(&due, "mode") && !due.dirty.hint(&RelPath::root(), &name("mode")).content);
    let open = fs::OpenOptions::new().write(true).open(root.join("cut")).unwrap();
    open.set_len(1).unwrap();
    assert!(named(&scene.all_due(), "cut"), "without a close, after the quiet time");
    drop(open);
    fs::remove_file(root.join("gone")).unwrap();
    let due = scene.all_due();
    assert!(named(&due, "gone") && due.dirty.removed_by_event(&path("gone")));
    fs::File::open(root.join("times")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(named(&scene.all_due(), "times"));
    fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(scene.all_due().dirty.root_entry());
}

#[test]
fn what_is_complete_when_created_does_not_wait_for_a_close() {
    let scene = Scene::new(|root| fs::write(root.join("f"), "x").unwrap());
    fs::hard_link(scene.root().join("f"), scene.root().join("g")).unwrap();
    symlink("f", scene.root().join("l")).unwrap();
    scene.mkdir("d");
    scene.watcher.barrier();
    let due = scene.watcher.due();
    for found in ["g", "l", "d"] {
        assert!(named(&due, found), "{found} in {due:#?}");
    }
}

#[test]
fn an_open_file_is_held_and_says_so() {
    let scene = Scene::new(|_| ());
    let file = fs::File::create(scene.root().join("f")).unwrap();
    file.set_len(1).unwrap();
    scene.watcher.barrier();
    assert!(scene.watcher.due().dirty.is_empty());
    assert!(scene.watcher.is_unsettled(&path("f")));
    assert_eq!(scene.watcher.unsettled_in(&RelPath::root()), [name("f")]);
    drop(file);
    scene.watcher.barrier();
    assert!(named(&scene.watcher.due(), "f") && !scene.watcher.is_unsettled(&path("f")));
}

/// Reads a file again and again that is rewritten in place all the time, and gives how often it was taken, and how often
/// what was taken was no whole version.
fn read_while_rewritten() -> (u32, u32) {
    const BYTES: usize = 1024;
    let scene = Scene::new(|root| fs::write(root.join("f"), [0; BYTES]).unwrap());
    let stop = AtomicBool::new(false);
    let (mut taken, mut torn) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in (0..=u8::MAX).cycle() {
                let half = [version; BYTES / 2];
                let mut file = fs::File::create(scene.root().join("f")).unwrap();
                file.write_all(&half).unwrap();
                file.write_all(&half).unwrap();
                drop(file);
                // Looked at after the close, so that there is something to be taken.
                let until = Instant::now() + Duration::from_micros(u64::from(version));
                while Instant::now() < until {
                    std::thread::yield_now();
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let dir = Dir::open_root(&scene.root()).unwrap();
        let until = Instant::now() + READING;
        while Instant::now() < until {
            let _due = scene.watcher.due();
            if scene.watcher.is_unsettled(&path("f")) {
                continue;
            }
            let (mut file, before) = dir.open_file(&name("f")).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            tree::at::let_changes_finish(&file);
            let after = tree::at::stat_of(&file, &scene.root()).unwrap();
            if before.is_unchanged(&after) && !scene.watcher.is_unsettled_by_now(&path("f")) {
                taken += 1;
                torn += u32::from(content.len() != BYTES || content.iter().any(|byte| *byte != content[0]));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    (taken, torn)
}

#[test]
fn what_was_read_and_is_not_unsettled_by_now_is_one_whole_version() {
    let (taken, torn) = read_while_rewritten();
    assert_eq!(torn, 0, "of {taken}");
    assert!(taken > 20, "only {taken} were read between two changes");
}

#[test]
fn canary_asking_only_what_the_thread_has_noted_takes_what_is_torn() {
    let scene = Scene::new(|root| fs::write(root.join("f"), "whole").unwrap());
    // Once in a while the thread is just about to look, and notes it all the same.
    let torn = (0..100).any(|_| {
        scene.watcher.barrier();
        scene.hooks().paused.store(true, Ordering::SeqCst);
        let mut file = fs::File::create(scene.root().join("f")).unwrap();
        file.write_all(b"wh").unwrap();
        let noted = scene.watcher.is_unsettled(&path("f"));
        std::thread::scope(|scope| {
            let by_now = scope.spawn(|| scene.watcher.is_unsettled_by_now(&path("f")));
            scene.hooks().paused.store(false, Ordering::SeqCst);
            assert!(by_now.join().unwrap());
        });
        !noted
    });
    assert!(torn);
}

#[test]
fn our_own_temporaries_are_nobodys_change() {
    let scene = Scene::new(|_| ());
    let temp = scene.root().join(".lockstep-tmp-0123456789abcdef");
    fs::write(&temp, "x").unwrap();
    fs::create_dir(scene.root().join(".lockstep-tmp-0123456789abcde0")).unwrap();
    fs::write(scene.root().join(".lockstep-tmp-0123456789abcde0/inside"), "x").unwrap();
    scene.no_dirt_of();
    fs::rename(&temp, scene.root().join("f")).unwrap();
    scene.rename(".lockstep-tmp-0123456789abcde0", "d");
    let due = scene.all_due();
    assert!(named(&due, "f") && covers(&due, "d/inside"), "{due:#?}");
    assert!(due.dirty.iter().all(|(_, look)| look.names.keys().all(|n| !tree::at::is_temp_name(n))), "{due:#?}");
}

#[test]
fn a_root_renamed_away_is_told() {
    let scene = Scene::new(|_| ());
    fs::rename(scene.root(), scene.outside().join("root")).unwrap();
    let due = scene.until(|due| !due.news.is_empty());
    assert_eq!(due.news, [News::RootGone(RootGone::Moved)]);
}

#[test]
fn a_deleted_root_is_told_though_it_is_held_open() {
    let scene = Scene::new(|root| fs::write(root.join("f"), "x").unwrap());
    fs::remove_dir_all(scene.root()).unwrap();
    let due = scene.until(|due| !due.news.is_empty());
    assert_eq!(due.news, [News::RootGone(RootGone::Deleted)]);
}

#[test]
fn without_a_watch_left_the_rest_is_named_for_polling_and_watched_later() {
    let scene = Scene::new(|_| ());
    scene.hooks().watches_max.store(2, Ordering::SeqCst);
    scene.mkdir("a/b");
    let due = scene.all_due();
    assert!(
        matches!(&due.news[..], [News::WatchesUsedUp { dir, hint }]
        if *dir == path("a/b") && hint.contains("sysctl fs.inotify.max_user_watches=")),
        "{:?}",
        due.news
    );
    assert_eq!(scene.watcher.unwatched(), [path("a/b")]);
    scene.rename("a", "c");
    let _renamed = scene.all_due();
    assert_eq!(scene.watcher.unwatched(), [path("c/b")]);
    scene.hooks().watches_max.store(usize::MAX, Ordering::SeqCst);
    scene.watcher.retry_unwatched();
    assert!(covers(&scene.all_due(), "c/b/f"));
    assert_eq!(scene.watcher.unwatched(), []);
    scene.write("c/b/f", "x");
    assert!(named(&scene.all_due(), "c/b/f"));
}

#[test]
fn a_removed_tree_is_a_wish_and_leaves_no_watch() {
    let scene = Scene::new(|root| fs::create_dir_all(root.join("a/b/c")).unwrap());
    fs::remove_dir_all(scene.root().join("a")).unwrap();
    let due = scene.all_due();
    assert!(named(&due, "a") && due.dirty.removed_by_event(&path("a/b/c/f")));
    assert!(!due.dirty.removed_by_event(&path("other")));
    scene.mkdir("a/b");
    scene.write("a/b/f", "x");
    let _made = scene.all_due();
    scene.write("a/b/f", "y");
    assert!(named(&scene.all_due(), "a/b/f"));
}

#[test]
fn a_barrier_covers_what_was_written_before_it() {
    let scene = Scene::new(|_| ());
    for i in 0..2_000 {
        scene.write("f", &i.to_string());
        scene.watcher.barrier();
        assert!(!scene.watcher.shared.lock().settle.is_empty(), "try {i}");
        let _due = scene.watcher.shared.lock().settle.due(now() + Duration::from_secs(10));
    }
}

#[test]
fn dropping_a_watcher_ends_its_thread() {
    let scene = Scene::new(|_| ());
    let shared = Arc::clone(&scene.watcher.shared);
    drop(scene);
    assert!(shared.lock().ended);
    assert_eq!(Arc::strong_count(&shared), 1);
}
