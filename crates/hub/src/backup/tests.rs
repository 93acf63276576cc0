use super::*;
use crate::roster::Registry;
use board::{Durability, OpenOptions, SqliteStore, Write, Writer};
use bytes::Bytes;
use std::os::unix::fs::PermissionsExt;
use tokio::sync::Notify;

fn values(data: &Path) -> Writer {
    let store = SqliteStore::open(data.join("data.db"), Durability::Process).unwrap();
    let entropy = Box::new(|| getrandom::u64().unwrap());
    Writer::open(Box::new(store), OpenOptions { durable: true, boot_id: "this".into(), entropy }).unwrap()
}

fn put(name: &'static str, value: &'static str) -> Write {
    Write::Put {
        name: Bytes::from_static(name.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        aside: Bytes::new(),
    }
}

/// A data directory as a hub leaves it, with one value.
fn left(data: &Path) {
    let directory = DataDir::open(data).unwrap();
    directory.identity("hub").unwrap();
    let (registry, thread) = Registry::start(&directory.file("roster.db"), Arc::<Notify>::default()).unwrap();
    registry.stop();
    thread.join();
    let mut writer = values(directory.path());
    writer.commit(vec![put("a", "1")]).unwrap();
    writer.close().unwrap();
    fs::write(directory.file("clients.csv"), "id\n").unwrap();
}

/// Everything below a directory, by name.
fn all_of(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    found
}

fn backed_up(scratch: &Path) -> PathBuf {
    let (data, file) = (scratch.join("hub"), scratch.join("backup"));
    left(&data);
    let packed = pack(&stage_stopped(&data).unwrap(), &file).unwrap();
    let names: Vec<&str> = packed.files.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["data.db", "hub.cert.der", "hub.key.der", "roster.db"], "no table, no lock");
    assert_eq!(packed.bytes, fs::metadata(&file).unwrap().len());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_dir(&data).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().starts_with(STAGED)));
    file
}

#[test]
fn what_was_backed_up_comes_back_as_an_older_state_of_a_new_history() {
    let scratch = tempfile::tempdir().unwrap();
    let file = backed_up(scratch.path());
    let data = scratch.path().join("hub");
    let before = {
        let mut writer = values(&data);
        writer.commit(vec![put("a", "2"), put("b", "2")]).unwrap();
        let board = writer.board();
        writer.close().unwrap();
        board.version()
    };
    let restored = restore(&file, &data, true).unwrap();
    let writer = values(&data);
    let board = writer.board();
    assert_eq!(board.get(b"a").unwrap().value.as_deref(), Some(&b"1"[..]));
    assert!(board.get(b"b").is_none() && board.version().epoch != before.epoch);
    let kept = restored.before.unwrap();
    assert!(kept.join("data.db").exists() && kept.join("clients.csv").exists());
    drop(writer);
    // The same, into a directory that is not there yet.
    let other = scratch.path().join("new");
    assert!(restore(&file, &other, false).unwrap().before.is_none());
    assert_eq!(fs::read(other.join("hub.key.der")).unwrap(), fs::read(data.join("hub.key.der")).unwrap());
    assert_eq!(fs::metadata(other.join("hub.key.der")).unwrap().permissions().mode() & 0o777, 0o600);
    DataDir::open(&other).unwrap();
}

#[test]
fn a_backup_with_any_byte_changed_cut_or_added_is_refused_and_nothing_is_touched() {
    let scratch = tempfile::tempdir().unwrap();
    let file = backed_up(scratch.path());
    let data = scratch.path().join("hub");
    let (whole, before) = (fs::read(&file).unwrap(), all_of(&data));
    let refused = |bytes: &[u8], what: &str| {
        fs::write(&file, bytes).unwrap();
        let Err(error) = restore(&file, &data, true) else { panic!("taken: {what}") };
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        let Err(_) = restore(&file, &scratch.path().join("new"), false) else { panic!("taken: {what}") };
        assert!(!scratch.path().join("new").exists());
    };
    let head = whole.windows(2).position(|pair| pair == b"]}").unwrap() + 2;
    // All of what it says of itself, and here and there in the contents.
    for at in (0..head).chain((head..whole.len()).step_by(whole.len() / 50)).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(&bytes, &format!("byte {at} changed"));
    }
    for len in [0, 10, head - 1, head, head + 1, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..len], &format!("cut to {len}"));
    }
    refused(&[&whole[..], b"x"].concat(), "something added");
    assert_eq!(all_of(&data), before);
    fs::write(&file, &whole).unwrap();
    restore(&file, &data, true).unwrap();
}

#[test]
fn a_backup_names_no_file_outside_and_none_that_it_is_not_made_of() {
    for name in ["data.db", "share-0123456789abcdef.db", "hub.key.der", "http-ca.pem"] {
        assert!(is_kept(name), "{name}");
    }
    for name in ["../data.db", "/data.db", ".db", "a/b.db", ".x.db", "lock", "clients.csv", "data.db-wal", "A.db", ""] {
        assert!(!is_kept(name), "{name}");
    }
}

#[test]
fn a_directory_in_use_or_not_empty_is_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let file = backed_up(scratch.path());
    let data = scratch.path().join("hub");
    let before = all_of(&data);
    assert!(matches!(restore(&file, &data, false), Err(BackupError::NotEmpty { .. })));
    let running = DataDir::open(&data).unwrap();
    for replace in [false, true] {
        let refused = restore(&file, &data, replace);
        assert!(matches!(refused, Err(BackupError::State(StateError::InUse { .. }))), "{refused:?}");
    }
    assert!(matches!(stage_stopped(&data), Err(BackupError::State(StateError::InUse { .. }))));
    drop(running);
    assert_eq!(all_of(&data), before);
    let nothing = scratch.path().join("nothing");
    assert!(matches!(stage_stopped(&nothing), Err(BackupError::Nothing { .. })) && !nothing.exists());
}

#[test]
fn a_directory_left_half_way_is_started_on_by_nobody_until_the_restore_is_done_again() {
    let scratch = tempfile::tempdir().unwrap();
    let file = backed_up(scratch.path());
    let data = scratch.path().join("hub");
    fs::write(data.join(crate::state::RESTORING_NAME), "").unwrap();
    fs::remove_file(data.join("roster.db")).unwrap();
    let told = DataDir::open(&data).unwrap_err();
    assert!(told.to_string().contains("--replace"), "{told}");
    restore(&file, &data, true).unwrap();
    DataDir::open(&data).unwrap();
    assert!(data.join("roster.db").exists());
}

#[test]
fn copies_that_nobody_took_away_go_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let left = new_staged(scratch.path()).unwrap();
    fs::create_dir(scratch.path().join("backup-of-mine")).unwrap();
    sweep(scratch.path(), STAGED_MAX);
    assert!(left.exists());
    sweep(scratch.path(), Duration::ZERO);
    assert!(!left.exists() && scratch.path().join("backup-of-mine").exists());
}
