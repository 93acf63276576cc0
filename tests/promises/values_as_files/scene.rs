//! A hub, one machine that keeps its values as files, and what the files are to be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use serde_json::Value;
use support::{Cluster, PATIENCE, Proc, lockstep_at, until};
use wire::message::{Content, Mark, ToClient, ToHub};

use crate::speaker::Speaker;

pub(super) type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// A hub, and one machine that keeps values as files.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) machine: Option<Proc>,
}

impl Scene {
    /// A hub alone.
    pub(super) fn hub(hub_args: &[&str]) -> Self {
        Self { cluster: Cluster::start(|share| fs::write(share.join("f"), "x").unwrap(), hub_args), machine: None }
    }

    /// All values are kept and in sync.
    pub(super) fn start() -> Self {
        let mut scene = Self::hub(&[]);
        scene.join(&["--values", scene.dir().to_str().unwrap()]);
        scene.settle();
        scene
    }

    pub(super) fn home(&self) -> PathBuf {
        self.cluster.path().join("machine")
    }

    /// Where the values are.
    pub(super) fn dir(&self) -> PathBuf {
        self.cluster.path().join("values")
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = lockstep_at(self.home());
        command.arg("join").args(args);
        command
    }

    /// Joins as client 1.
    pub(super) fn join(&mut self, args: &[&str]) {
        let link = self.cluster.link();
        self.machine = Some(Proc::start(self.command(&[&link, "--id", "1"]).args(args)));
    }

    /// As after the first time: the hub, the ID and what is kept are remembered.
    pub(super) fn join_again(&mut self) {
        self.machine = Some(Proc::start(&mut self.command(&[])));
    }

    pub(super) fn kill(&mut self) {
        let mut machine = self.machine.take().unwrap();
        machine.kill9();
        machine.wait_exit(PATIENCE);
    }

    /// Somebody who puts values, with an ID of its own.
    pub(super) fn speaker(&self, id: u64) -> Speaker {
        Speaker::logged_in(&self.cluster.address(), id, None).0
    }

    pub(super) fn put(&self, name: &str, value: &str) {
        done(&self.cluster.run(&["put", name, value]));
    }

    pub(super) fn remove(&self, name: &str) {
        done(&self.cluster.run(&["put", name, "--remove"]));
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Waits, by `lockstep wait`, until client 1 has all that it keeps.
    #[track_caller]
    pub(super) fn settle(&self) {
        let waited = || self.cluster.run(&["wait", "--client", "1", "--timeout", "2s"]);
        until(PATIENCE, &format!("client 1 to have all\n{}", self.said()), || waited().status.success());
    }

    /// What the machine said and logged.
    pub(super) fn said(&self) -> String {
        let log = fs::read_to_string(self.home().join("log/join.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        let said = self.machine.as_ref().map(|machine| machine.output().join("\n")).unwrap_or_default();
        format!("{said}\n{}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"), self.cluster.scene())
    }

    /// [`Scene::settle`], and the files are the values `wanted`.
    #[track_caller]
    pub(super) fn assert_files(&self, wanted: &Values) {
        self.settle();
        let (files, wanted) = (files_in(&self.dir()), as_files(wanted));
        assert!(files == wanted, "the files are not the values: {}\n{}", difference(&wanted, &files), self.said());
    }

    pub(super) fn status(&self) -> Value {
        serde_json::from_slice(&self.cluster.run(&["status", "--json"]).stdout).unwrap()
    }
}

pub(super) fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn values(values: &[(&str, &str)]) -> Values {
    values.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// The name of a value's file, as the document says; of one that fits.
pub(super) fn escaped(name: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for (at, b) in name.iter().enumerate() {
        if b"/%\x7f".contains(b) || *b < 32 || at == 0 && b".-".contains(b) {
            file.extend(format!("%{b:02X}").bytes());
        } else {
            file.push(*b);
        }
    }
    file
}

pub(super) fn as_files(values: &Values) -> Values {
    values.iter().map(|(name, value)| (escaped(name), value.clone())).collect()
}

/// What is in a directory; nothing of ours that is half done is ever left.
pub(super) fn files_in(dir: &Path) -> Values {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        let content = fs::read(entry.path()).unwrap_or_else(|why| format!("({why})").into_bytes());
        (entry.file_name().into_vec(), content)
    };
    fs::read_dir(dir).unwrap().map(file).collect()
}

pub(super) fn difference(wanted: &Values, found: &Values) -> String {
    let names: std::collections::BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let short = |value: Option<&Vec<u8>>| value.map(|value| value[..value.len().min(40)].escape_ascii().to_string());
    let differ = names.into_iter().filter(|name| wanted.get(*name) != found.get(*name));
    let line = |name: &Vec<u8>| {
        format!("{}: {:?} is {:?}", name.escape_ascii(), short(wanted.get(name)), short(found.get(name)))
    };
    differ.take(10).map(line).collect::<Vec<_>>().join("\n")
}

/// Puts any bytes under any name, or removes them; on the hub's disk when it returns.
pub(super) fn put(speaker: &mut Speaker, name: &[u8], value: Option<&[u8]>) {
    let content = |value| Content { content_type: "text/plain".into(), bytes: Bytes::copy_from_slice(value) };
    speaker.say(&ToHub::Put { req: 1, name: Bytes::copy_from_slice(name), value: value.map(content) });
    assert!(matches!(speaker.hear(), ToClient::PutDone { .. }));
}

/// All that the hub has, by its own words to somebody who follows it.
pub(super) fn of_hub(speaker: &mut Speaker) -> Values {
    speaker.say(&ToHub::Follow { fid: 9, board: "data".into(), pattern: "*".into(), cursor: None });
    let mut held = Values::new();
    loop {
        let ToClient::Batch(batch) = speaker.hear() else { continue };
        for record in batch.records {
            match record.value {
                Some(value) => {
                    let stored = wire::codec::decode_stored(&value).unwrap();
                    held.insert(record.name.to_vec(), stored.content.bytes.to_vec());
                }
                None => drop(held.remove(&record.name[..])),
            }
        }
        if matches!(batch.mark, Mark::Live { current: Some(_), .. }) {
            speaker.say(&ToHub::Unfollow { fid: 9 });
            return held;
        }
    }
}
