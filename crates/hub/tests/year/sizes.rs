//! How large everything is that could grow, and what of it may.

use crate::house::House;
use crate::web::get;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What may become of a size.
#[derive(Clone, Copy)]
enum Bound {
    /// It stays, but for a quarter and so much.
    Stays(u64),
    /// It may grow up to this.
    UpTo(u64),
}

/// Values that were removed are remembered: so many, and as many more before they are looked through again.
const VALUE_TOMBSTONES: u64 = 20_000;
const ENTRY_TOMBSTONES: u64 = 100_000;
/// Two logs of four parts.
const AUDIT_BYTES: u64 = 2 * 4 * (8 << 20);

const BOUNDS: [(&str, Bound); 15] = [
    ("metric series", Bound::Stays(0)),
    ("descriptors", Bound::Stays(6)),
    ("threads", Bound::Stays(6)),
    // With all of the test in it.
    ("resident bytes", Bound::Stays(24 << 20)),
    ("files in the data directory", Bound::Stays(4)),
    ("bytes of values", Bound::Stays(4 << 20)),
    ("bytes of their log", Bound::Stays(9 << 20)),
    ("bytes of the roster", Bound::Stays(128 << 10)),
    ("bytes of its log", Bound::Stays(5 << 20)),
    ("bytes of the share's index", Bound::Stays(4 << 20)),
    ("bytes of the audit log", Bound::UpTo(AUDIT_BYTES)),
    ("removed values", Bound::UpTo(VALUE_TOMBSTONES)),
    ("removed entries", Bound::UpTo(ENTRY_TOMBSTONES)),
    ("invites", Bound::Stays(20)),
    ("tokens", Bound::Stays(20)),
];

pub(crate) type Sizes = BTreeMap<&'static str, u64>;

/// Looks, and has the hub start anew for it: its stores are its own alone while it runs.
pub(crate) fn measure(house: &mut House, token: &str) -> Sizes {
    let (status, metrics) = get(house, "/metrics", token);
    assert_eq!(status, 200, "{metrics}");
    let count = |path: &str| fs::read_dir(path).unwrap().count() as u64;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse::<u64>().ok());
    let mut sizes = Sizes::from([
        ("metric series", metrics.lines().filter(|line| !line.starts_with('#')).count() as u64),
        ("descriptors", count("/proc/self/fd")),
        ("threads", count("/proc/self/task")),
        ("resident bytes", kib.unwrap() * 1024),
    ]);
    let data = house.data();
    let bytes = |of: &dyn Fn(&str) -> bool| {
        let files = fs::read_dir(&data).unwrap().map(Result::unwrap);
        let some = files.filter(|file| of(&file.file_name().to_string_lossy()));
        some.map(|file| file.metadata().unwrap().len()).sum::<u64>()
    };
    // While it runs, as the logs of the stores go when they are closed.
    sizes.insert("files in the data directory", count(data.to_str().unwrap()));
    sizes.insert("bytes of their log", bytes(&|name| name == "data.db-wal"));
    sizes.insert("bytes of its log", bytes(&|name| name == "roster.db-wal"));
    house.stop();
    sizes.insert("bytes of values", bytes(&|name| name == "data.db"));
    sizes.insert("bytes of the roster", bytes(&|name| name == "roster.db"));
    sizes.insert("bytes of the share's index", bytes(&|name| name.starts_with("share") && name.ends_with(".db")));
    sizes.insert("bytes of the audit log", bytes(&|name| name.starts_with("audit")));
    let share = fs::read_dir(&data).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let share = share.into_iter().find(|name| name.starts_with("share") && name.ends_with(".db")).expect("its index");
    sizes.insert("removed values", rows(&data.join("data.db"), "records WHERE value IS NULL"));
    sizes.insert("removed entries", rows(&data.join(share), "records WHERE value IS NULL"));
    sizes.insert("invites", rows(&data.join("roster.db"), "invites"));
    sizes.insert("tokens", rows(&data.join("roster.db"), "tokens"));
    house.start();
    sizes
}

fn rows(store: &Path, of: &str) -> u64 {
    let store = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    store.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
}

/// What has grown and may not.
pub(crate) fn grown(before: &Sizes, after: &Sizes) -> Vec<String> {
    let grown = BOUNDS.iter().filter(|(what, bound)| match bound {
        Bound::Stays(more) => after[what] > before[what] + before[what] / 4 + more,
        Bound::UpTo(most) => after[what] > *most,
    });
    grown.map(|(what, _)| format!("{what}: {} and then {}", before[what], after[what])).collect()
}

#[test]
fn canary_what_has_grown_is_told() {
    let before: Sizes = BOUNDS.iter().map(|(what, _)| (*what, 100)).collect();
    assert_eq!(grown(&before, &before), Vec::<String>::new());
    for (what, bound) in BOUNDS {
        let (Bound::Stays(most) | Bound::UpTo(most)) = bound;
        let mut after = before.clone();
        after.insert(what, most + 126);
        assert_eq!(grown(&before, &after).len(), 1, "{what}");
    }
}
