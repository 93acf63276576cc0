//! What befalls the hub, and what is done about it.

use super::{Backup, Life, MACHINES, record_of};
use crate::machine::forget_key;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use support::{PATIENCE, until};
use wire::answer::{Answer, Question};

/// The tables of a roster of format 2, and their columns: nothing is left of what came later.
const ROSTER_2: [(&str, &str); 3] = [
    (
        "clients",
        "id name state hash origin_address origin_invite issued_at_ms next_hash next_invite next_issued_at_ms next_lapsed address transport \
         enrolled_at_ms last_login_ms last_seen_ms shares version kept_values",
    ),
    ("invites", "hash purpose id uses uses_left created_at_ms expires_at_ms"),
    ("tokens", "hash name client may_put created_at_ms expires_at_ms"),
];

impl Life {
    pub(super) fn reboot(&mut self) {
        self.told("the hub is started anew");
        self.house.reboot();
    }

    pub(super) fn die(&mut self) {
        self.told("the hub is killed");
        self.house.die();
    }

    /// To this release, from one that knew neither rights nor a format of its directory.
    pub(super) fn upgrade(&mut self) {
        self.told("the hub is upgraded");
        self.house.stop();
        let roster = Connection::open(self.house.data().join("roster.db")).unwrap();
        for (table, columns) in ROSTER_2 {
            let mut info = roster.prepare(&format!("SELECT name FROM pragma_table_info('{table}')")).unwrap();
            let now = info.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
            for column in now.filter(|column| !columns.split(' ').any(|known| known == column)) {
                roster.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {column}")).unwrap();
            }
        }
        roster.pragma_update(None, "user_version", 2).unwrap();
        drop(roster);
        fs::remove_file(self.house.data().join("format")).unwrap();
        self.house.start();
    }

    pub(super) fn back_up(&mut self) {
        self.told("it is backed up");
        let Answer::Backup { directory } = self.runtime.block_on(self.house.ask(Question::Backup)) else {
            panic!("no backup")
        };
        let file = self.house.place.join("backup");
        hub::backup::pack(Path::new(&directory), &file).unwrap();
        self.backup = Some(Backup { file, model: self.model.clone(), keys: self.keys.clone() });
    }

    /// What came since is lost; who was revoked since is revoked again, and so is who has another unique ID by now.
    pub(super) fn put_back(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        self.told("the backup is put back");
        self.house.stop();
        let restored = hub::backup::restore(&backup.file, &self.house.data(), true).unwrap();
        let before = restored.before.expect("there was something");
        record_of(&before, &mut self.read);
        fs::remove_dir_all(before).unwrap();
        self.house.start();
        let now = std::mem::replace(&mut self.model, backup.model.clone());
        let ids: BTreeSet<u64> = now.clients.keys().copied().collect();
        for id in ids {
            let same = self.keys.get(&id) == backup.keys.get(&id);
            let known = backup.model.clients.get(&id);
            if (!same || known.is_none()) && self.machines.remove(&id).is_some() {
                forget_key(&self.house, id);
            }
            if known == Some(&false) && (now.clients[&id] || !same) {
                self.revokes(id);
            }
        }
        self.keys.clone_from(&backup.keys);
        // Who has become so few gets company.
        while self.machines.len() < MACHINES / 2 {
            self.enrol();
        }
    }

    pub(super) fn full_disk(&mut self) {
        self.told("the disk is full");
        let filler = self.house.place.join("filler");
        support::disk::fill(&filler);
        let name = format!("full/{}", self.day % 3);
        let put = self.put(&name, Some(&format!("{}-{}", self.day, "x".repeat(100_000))));
        self.told(format!("a put on the full disk: {:?}", put.map_err(|error| error.to_string())));
        fs::remove_file(filler).unwrap();
        // There is room again, and nothing stays behind.
        let value = format!("{}-after", self.day);
        until(PATIENCE, "a put to be taken again", || self.put(&name, Some(&value)).is_ok());
    }
}
