//! The data directory: one hub at a time, from older releases, and not from newer ones.

use std::fs;
use std::process::Command;

use support::{PATIENCE, python};

use super::all_of;
use crate::login::{empty_hub, ended, roster};

/// Makes a roster what it was in its first format: nothing is left of what came later.
const FIRST_FORMAT: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
kept = {
    'clients': 'id name state hash origin_address origin_invite issued_at_ms next_hash next_invite next_issued_at_ms next_lapsed '
        'address transport enrolled_at_ms last_login_ms last_seen_ms shares version',
    'invites': 'hash purpose id uses uses_left created_at_ms expires_at_ms',
}
for (table,) in db.execute('SELECT name FROM sqlite_schema WHERE type = ?', ['table']).fetchall():
    if table not in kept:
        db.execute(f'DROP TABLE {table}')
        continue
    for column in [row[1] for row in db.execute(f'PRAGMA table_info({table})').fetchall()]:
        if column not in kept[table].split():
            db.execute(f'ALTER TABLE {table} DROP COLUMN {column}')
db.execute('PRAGMA user_version = 1')
db.commit()
";

#[test]
fn a_second_hub_on_one_data_directory_is_refused_and_disturbs_nothing() {
    let cluster = empty_hub(&[]).with_agents(1);
    let (code, said) = ended(&mut cluster.hub_command());
    assert!(code == Some(3) && said.contains("in use by another hub"), "{said}");
    cluster.settle();
}

#[test]
fn a_data_directory_of_a_newer_release_is_refused_as_it_is_and_the_release_is_named() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    cluster.stop_hub();
    let file = cluster.hub_data().join("format");
    let ours = fs::read_to_string(&file).unwrap();
    fs::write(&file, "format 999\nwritten by lockstep 7.8.9\n").unwrap();
    let before = all_of(&cluster.hub_data());
    let (code, said) = ended(&mut cluster.hub_command());
    assert!(code == Some(3) && said.contains("install lockstep 7.8.9 or newer"), "{said}");
    assert_eq!(all_of(&cluster.hub_data()), before);
    fs::write(&file, ours).unwrap();
    cluster.start_hub();
    cluster.settle();
}

#[test]
fn a_data_directory_of_before_it_had_a_format_and_a_roster_of_an_older_one_are_migrated() {
    let mut cluster = empty_hub(&[]).with_agents(1);
    cluster.stop_hub();
    let (data, file) = (cluster.hub_data(), cluster.hub_data().join("format"));
    let ours = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let done = Command::new(python()).args(["-c", FIRST_FORMAT]).arg(data.join("roster.db")).status().unwrap();
    assert!(done.success());
    cluster.start_hub();
    cluster.settle();
    assert_eq!(fs::read_to_string(&file).unwrap(), ours);
    assert_eq!(roster(&cluster), [(1, "active".to_owned())]);
    assert!(cluster.run(&["token", "--name", "t"]).status.success(), "what the older one did not know is there");
    cluster.hub().terminate();
    cluster.hub().wait_exit(PATIENCE);
}
