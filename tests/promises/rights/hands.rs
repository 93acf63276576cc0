//! A client of each transport, as far as rights are concerned: what it puts, gets, follows and sees, and the code of a refusal.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use support::{Library, Stock};
use wire::answer::{Answer, Question};
use wire::message::{Content, Cursor, Mark, ToClient, ToHub};
use wire::unique_id::UniqueId;

use crate::speaker::Speaker;
use crate::text::typist::Typist;
use crate::web::Web;

/// What came of it: something, or the code of the refusal.
pub(super) type Outcome<T> = Result<T, String>;
pub(super) type Names = BTreeSet<String>;

/// A client that is in.
pub(super) trait Hand {
    fn put(&mut self, name: &str) -> Outcome<()>;
    fn remove(&mut self, name: &str) -> Outcome<()>;
    /// `false`: there is no such value.
    fn get(&mut self, name: &str) -> Outcome<bool>;
    /// Follows from `since` on until there is nothing newer; whether it was to begin anew, the names it was told of, and its cursor.
    fn follow(&mut self, pattern: &str, since: Option<&str>) -> Outcome<(bool, Names, String)>;
    fn clients(&mut self) -> BTreeSet<u64>;
    fn shares(&mut self) -> Names;
}

/// Where each transport is.
pub(super) struct Doors {
    pub(super) native: String,
    pub(super) text: String,
    pub(super) web: Web,
}

/// Every transport by its name.
pub(super) const TRANSPORTS: [&str; 5] = ["native", "text", "http", "python", "node"];

impl Doors {
    /// The client that holds this unique ID, by one of [`TRANSPORTS`].
    #[track_caller]
    pub(super) fn open(&self, transport: &str, unique_id: &UniqueId) -> Box<dyn Hand> {
        let id = unique_id.id().get();
        let socketio = |library| {
            let auth = json!({ "id": id, "unique_id": unique_id.reveal(), "follow": [] });
            let stock = Stock::start(library, &format!("http://{}", self.web.address), &["websocket"], Some(auth));
            let shares = stock.hear(0, "welcome")["shares"].clone();
            Box::new(SocketIo { stock, shares })
        };
        match transport {
            "native" => Box::new(Native::open(self, unique_id)),
            "text" => Box::new(Text(Typist::logged_in(&self.text, id, &unique_id.reveal()))),
            "http" => Box::new(Http(self.web.basic(unique_id))),
            "python" => socketio(Library::Python),
            "node" => socketio(Library::Node),
            other => panic!("{other}"),
        }
    }
}

pub(super) struct Native {
    pub(super) speaker: Speaker,
    pub(super) token: wire::secret::Token,
    shares: Names,
    number: u32,
}

impl Native {
    #[track_caller]
    pub(super) fn open(doors: &Doors, unique_id: &UniqueId) -> Native {
        let mut speaker = Speaker::greeted(&doors.native);
        let id = unique_id.id().to_string();
        assert!(matches!(speaker.claim(&id, None), crate::speaker::Asked::UniqueId));
        speaker.say(&crate::speaker::prove(unique_id));
        let welcome = speaker.welcome();
        let shares = welcome.shares.into_iter().map(|share| share.name).collect();
        Native { speaker, token: welcome.token, shares, number: 0 }
    }

    /// The answer to a request: what is followed may come before it.
    pub(super) fn ask(&mut self, request: impl FnOnce(u32) -> ToHub) -> Outcome<ToClient> {
        self.number += 1;
        self.speaker.say(&request(self.number));
        loop {
            match self.speaker.hear() {
                ToClient::Batch(_) | ToClient::Pong { .. } => {}
                ToClient::Failed { refusal, .. } => return Err(refusal.code.as_str().to_owned()),
                answer => return Ok(answer),
            }
        }
    }

    /// As [`Hand::follow`], of any board.
    pub(super) fn follow_board(
        &mut self,
        board: &str,
        pattern: &str,
        cursor: Option<Cursor>,
    ) -> Outcome<(bool, Names, Cursor)> {
        let pattern = Bytes::copy_from_slice(pattern.as_bytes());
        let board = board.to_owned();
        let following = self.ask(|fid| ToHub::Follow { fid, board, pattern, cursor })?;
        let ToClient::Following { fid, epoch, run, reset, .. } = following else { panic!("{following:?}") };
        let mut names = Names::new();
        loop {
            let ToClient::Batch(batch) = self.speaker.hear() else { continue };
            names.extend(batch.records.iter().map(|record| String::from_utf8_lossy(&record.name).into_owned()));
            match batch.mark {
                // Nothing is told of names that are not followed, not even how far a walk has come among them.
                Mark::Walk { upto, .. } if !upto.is_empty() => {
                    names.insert(String::from_utf8_lossy(&upto).into_owned());
                }
                Mark::Live { to, current: Some(_), .. } => {
                    self.speaker.say(&ToHub::Unfollow { fid });
                    let version = wire::message::Version { epoch, run, seq: to };
                    return Ok((reset, names, Cursor { version, seen: to, walk: None }));
                }
                _ => {}
            }
        }
    }
}

impl Hand for Native {
    fn put(&mut self, name: &str) -> Outcome<()> {
        let value = Content { content_type: "text/plain".into(), bytes: Bytes::from_static(b"1") };
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(|req| ToHub::Put { req, name, value: Some(value) }).map(drop)
    }

    fn remove(&mut self, name: &str) -> Outcome<()> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(|req| ToHub::Put { req, name, value: None }).map(drop)
    }

    fn get(&mut self, name: &str) -> Outcome<bool> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        match self.ask(|req| ToHub::Get { req, name })? {
            ToClient::Got { value, .. } => Ok(value.is_some()),
            other => panic!("{other:?}"),
        }
    }

    fn follow(&mut self, pattern: &str, since: Option<&str>) -> Outcome<(bool, Names, String)> {
        let number = |text: &str| text.parse::<u128>().unwrap();
        let cursor = since.map(|text| {
            let parts: Vec<u128> = text.split(' ').map(number).collect();
            let [run, seq] = [parts[1], parts[2]].map(|part| u64::try_from(part).unwrap());
            Cursor { version: wire::message::Version { epoch: parts[0], run, seq }, seen: seq, walk: None }
        });
        let (reset, names, cursor) = self.follow_board("data", pattern, cursor)?;
        let version = cursor.version;
        Ok((reset, names, format!("{} {} {}", version.epoch, version.run, version.seq)))
    }

    fn clients(&mut self) -> BTreeSet<u64> {
        match self.ask(|req| ToHub::Ask { req, question: Question::Clients { all: true, after: 0 } }) {
            Ok(ToClient::Answer { answer: Answer::Clients(rows), .. }) => rows.iter().map(|row| row.id).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn shares(&mut self) -> Names {
        match self.ask(|req| ToHub::Ask { req, question: Question::Status }) {
            Ok(ToClient::Answer { answer: Answer::Status(status), .. }) => {
                let told: Names = status.shares.into_iter().map(|share| share.info.name).collect();
                assert_eq!(told, self.shares, "the welcome and the status tell the same");
                told
            }
            other => panic!("{other:?}"),
        }
    }
}

struct Text(Typist);

impl Text {
    fn say(&mut self, line: &str) -> Outcome<Vec<String>> {
        let answer = self.0.ask(line);
        match answer.last().and_then(|last| last.strip_prefix("error ")) {
            Some(error) => Err(error.split(' ').next().unwrap_or_default().to_owned()),
            None => Ok(answer),
        }
    }
}

impl Hand for Text {
    fn put(&mut self, name: &str) -> Outcome<()> {
        let answer = self.say(&format!("put {name} 1"))?;
        assert_eq!(answer.len(), 1, "nothing is followed by now");
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Outcome<()> {
        self.say(&format!("remove {name}")).map(drop)
    }

    fn get(&mut self, name: &str) -> Outcome<bool> {
        match self.say(&format!("get {name}")) {
            Ok(_) => Ok(true),
            Err(code) if code == "not_found" => Ok(false),
            Err(code) => Err(code),
        }
    }

    fn follow(&mut self, pattern: &str, since: Option<&str>) -> Outcome<(bool, Names, String)> {
        let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
        let answer = self.say(&format!("follow {pattern}{since}"))?;
        let reset = answer[0].starts_with("ok all");
        let mut names = Names::new();
        loop {
            let line = self.0.read_line().expect("it is in");
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "value" | "gone" => assert!(names.insert(words[2].to_owned())),
                "current" => {
                    let cursor = words[1].to_owned();
                    self.say(&format!("unfollow {pattern}"))?;
                    return Ok((reset, names, cursor));
                }
                _ => panic!("{line}"),
            }
        }
    }

    fn clients(&mut self) -> BTreeSet<u64> {
        let lines = self.say("clients").unwrap();
        let id =
            |line: &String| line.strip_prefix("client ").map(|rest| rest.split(' ').next().unwrap().parse().unwrap());
        lines.iter().filter_map(id).collect()
    }

    fn shares(&mut self) -> Names {
        // Lines of text tell of none.
        ["share".to_owned()].into()
    }
}

struct Http(Web);

impl Http {
    fn outcome(reply: &crate::web::Reply) -> Outcome<()> {
        if reply.status < 300 { Ok(()) } else { Err(reply.problem()) }
    }
}

impl Hand for Http {
    fn put(&mut self, name: &str) -> Outcome<()> {
        Self::outcome(&self.0.put(&format!("/api/values/{name}"), &[], b"1"))
    }

    fn remove(&mut self, name: &str) -> Outcome<()> {
        Self::outcome(&self.0.send("DELETE", &format!("/api/values/{name}"), &[], b""))
    }

    fn get(&mut self, name: &str) -> Outcome<bool> {
        match Self::outcome(&self.0.get(&format!("/api/values/{name}"))) {
            Ok(()) => Ok(true),
            Err(code) if code == "not_found" => Ok(false),
            Err(code) => Err(code),
        }
    }

    fn follow(&mut self, pattern: &str, since: Option<&str>) -> Outcome<(bool, Names, String)> {
        // Over HTTP patterns are beginnings of names.
        let prefix = pattern.trim_end_matches('*');
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let reply = self.0.get(&format!("/api/values?prefix={prefix}{since}"));
        Self::outcome(&reply)?;
        let page = reply.json();
        assert_eq!(page["current"], true);
        let names = page["values"].as_array().unwrap().iter().map(|value| value["name"].as_str().unwrap().to_owned());
        let reset = since.is_empty() || page["reset"] == true;
        Ok((reset, names.collect(), page["next"].as_str().unwrap().to_owned()))
    }

    fn clients(&mut self) -> BTreeSet<u64> {
        let rows = self.0.get("/api/clients?all=true").json();
        rows["clients"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    }

    fn shares(&mut self) -> Names {
        let shares = self.0.get("/api/shares").json();
        let rows = shares["shares"].as_array().unwrap();
        rows.iter().map(|share| share["info"]["name"].as_str().unwrap().to_owned()).collect()
    }
}

struct SocketIo {
    stock: Stock,
    shares: Value,
}

impl SocketIo {
    fn say(&mut self, event: Value) -> Outcome<Value> {
        let answer = self.stock.ask(event);
        if answer["ok"] == true { Ok(answer) } else { Err(answer["code"].as_str().unwrap().to_owned()) }
    }
}

impl Hand for SocketIo {
    fn put(&mut self, name: &str) -> Outcome<()> {
        self.say(json!(["put", name, "1"])).map(drop)
    }

    fn remove(&mut self, name: &str) -> Outcome<()> {
        self.say(json!(["remove", name])).map(drop)
    }

    fn get(&mut self, name: &str) -> Outcome<bool> {
        self.say(json!(["get", name])).map(|answer| !answer["value"].is_null())
    }

    fn follow(&mut self, pattern: &str, since: Option<&str>) -> Outcome<(bool, Names, String)> {
        let mark = self.stock.mark();
        self.say(json!(["follow", { "pattern": pattern, "cursor": since }]))?;
        let current = self.stock.hear(mark, "current");
        let names = ["value", "gone"].iter().flat_map(|event| self.stock.heard(mark, event));
        let names = names.map(|args| args[0]["name"].as_str().unwrap().to_owned()).collect();
        let reset = !self.stock.heard(mark, "reset").is_empty();
        self.say(json!(["unfollow", pattern]))?;
        Ok((reset, names, current["cursor"].as_str().unwrap().to_owned()))
    }

    fn clients(&mut self) -> BTreeSet<u64> {
        let answer = self.say(json!(["clients"])).unwrap();
        answer["clients"].as_array().unwrap().iter().map(|client| client["id"].as_u64().unwrap()).collect()
    }

    fn shares(&mut self) -> Names {
        self.shares.as_array().unwrap().iter().map(|share| share["name"].as_str().unwrap().to_owned()).collect()
    }
}
