//! A client that is in: what it asks for is done, what it follows is sent, at the pace at which it takes it.

use super::event::Event;
use super::follow::Follow;
use super::inbox::Incoming;
use super::login::Wishes;
use super::outbox::Outbox;
use super::payload::{self, Value};
use super::talk::{IsGone, ROOM_AGAIN, Talk};
use crate::answers::put_refusal;
use crate::cursor;
use crate::data::{Condition, Data, Offered, PutError};
use crate::presence::Session;
use board::Pattern;
use serde_json::{Value as Json, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use wire::limits::FOLLOWS_MAX;
use wire::message::{Code, Content, Refusal, Version};

/// Puts of one client that wait for the disk; then its next event waits.
const PUTS_MAX: usize = 64;
/// Events done between two looks at what is to be sent.
const EVENTS_IN_A_ROW: usize = 32;
/// How often it is looked whether anything came from the client.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The client is to be told.
    #[error("{}", .0.text)]
    Told(Refusal),
    #[error("{0}")]
    Gone(#[from] IsGone),
}

/// The answer to `get`.
#[derive(serde::Serialize)]
struct Got {
    ok: bool,
    value: Maybe,
}

/// A value or null. Not an `Option`: the engine would not see that there are bytes in it.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Maybe {
    Value(Value),
    Null,
}

/// A put on its way to the disk.
struct Put {
    event: Event,
    done: Offered,
}

/// The session of one client.
pub(super) struct Serving<'a> {
    talk: &'a Talk,
    session: &'a Arc<Session>,
    awake: Arc<Notify>,
    outbox: Outbox,
    puts: VecDeque<Put>,
}

impl<'a> Serving<'a> {
    pub(super) fn new(talk: &'a Talk, session: &'a Arc<Session>) -> Self {
        Serving { talk, session, awake: Arc::default(), outbox: Outbox::default(), puts: VecDeque::new() }
    }

    /// Serves until the session ends; says why it did.
    pub(super) async fn run(mut self, wishes: Wishes) -> Ended {
        match self.serve(wishes).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn serve(&mut self, wishes: Wishes) -> Result<std::convert::Infallible, Ended> {
        self.follow_wished(wishes).await?;
        let (talk, session) = (self.talk, self.session);
        let ended = session.ended();
        tokio::pin!(ended);
        let mut stopping = talk.hub.stopping.subscribe();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut heard = 0;
        loop {
            for _ in 0..EVENTS_IN_A_ROW {
                match self.takes().then(|| talk.inbox.pop()).flatten() {
                    Some(Incoming::Event(event)) => self.handle(event).await?,
                    Some(Incoming::Left(why)) => return Err(IsGone(why).into()),
                    None => break,
                }
            }
            talk.send_answers()?;
            let pause = self.outbox.send(talk, session).await? || talk.answers_waiting() > 0;
            tokio::select! {
                biased;
                why = &mut ended => return Err(Ended::Told(why)),
                () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                    return Err(Ended::Told(talk.hub.farewell.refusal()));
                }
                (event, done) = stored(&talk.hub.data, &mut self.puts) => self.put_done(event, done).await?,
                incoming = talk.inbox.next(), if self.takes() => match incoming {
                    Incoming::Event(event) => self.handle(event).await?,
                    Incoming::Left(why) => return Err(IsGone(why).into()),
                },
                () = self.outbox.moved(talk, session) => {}
                () = self.awake.notified(), if self.outbox.has_room() => {}
                () = tokio::time::sleep(ROOM_AGAIN), if pause => {}
                _ = looks.tick() => {
                    if talk.track.is_cut() {
                        return Err(IsGone("its connection was lost".into()).into());
                    }
                    let bytes = talk.track.heard_bytes();
                    if bytes != heard {
                        heard = bytes;
                        session.seen();
                    }
                }
            }
        }
    }

    /// Whether it looks at a further event.
    fn takes(&self) -> bool {
        self.puts.len() + self.talk.answers_waiting() < PUTS_MAX
    }

    async fn follow_wished(&mut self, mut wishes: Wishes) -> Result<(), Ended> {
        // Who asks for nothing gets all there is for it, be that nothing.
        let all = || if self.session.access.reads_some() { vec!["*".to_owned()] } else { Vec::new() };
        let patterns = wishes.follow.take().unwrap_or_else(all);
        for pattern in patterns {
            // It belongs to one of them; for the others it stands for nothing.
            let cursor = wishes.cursors.get("data").map(String::as_str);
            if let Err(refusal) = self.follow("data", &pattern, cursor) {
                self.talk.refused(&refusal).await?;
            }
        }
        Ok(())
    }

    async fn handle(&mut self, event: Event) -> Result<(), Ended> {
        self.session.seen();
        let done = match event.name.as_str() {
            "put" => match (event.text(0), event.args.get(1)) {
                (Some(name), Some(value)) => {
                    let content = payload::content(value, event.text(2));
                    return self.put(name.to_owned(), Some(content), event).await;
                }
                _ => Err(misused("put(name, value[, content type])")),
            },
            "remove" => match event.text(0) {
                Some(name) => return self.put(name.to_owned(), None, event).await,
                None => Err(misused("remove(name)")),
            },
            "get" => match event.text(0) {
                Some(name) => {
                    let got = match self.talk.hub.data.get(name.as_bytes(), &self.session.access) {
                        Ok(got) => got,
                        Err(refusal) => return Ok(self.talk.fail(event, &refusal).await?),
                    };
                    let value = got.map(|(version, stored)| Value::of("data", name.as_bytes(), version.seq, stored));
                    return Ok(self
                        .talk
                        .acknowledge(event, Got { ok: true, value: value.map_or(Maybe::Null, Maybe::Value) })?);
                }
                None => Err(misused("get(name)")),
            },
            "follow" => asked_for(&event)
                .and_then(|(board, pattern, cursor)| self.follow(board, &pattern, cursor.as_deref()))
                .map(|()| json!({})),
            "unfollow" => asked_for(&event).map(|(board, pattern, _)| {
                let found = self.outbox.unfollow(self.session, board, pattern.as_bytes());
                json!({ "followed": found })
            }),
            "clients" => self.clients(),
            "id" | "unique_id" => Err(Refusal {
                code: Code::Protocol,
                text: "already logged in: connect once more to log in as another".into(),
                retry_ms: None,
            }),
            _ => Err(Refusal {
                code: Code::Protocol,
                text: "no such event: there are put, remove, get, follow, unfollow and clients".into(),
                retry_ms: None,
            }),
        };
        match done {
            Ok(answer) => self.talk.answer(event, answer)?,
            Err(refusal) => self.talk.fail(event, &refusal).await?,
        }
        Ok(())
    }

    /// Begins a put or a removal. The next event is looked at once this one has its place before the disk, so they keep their order.
    async fn put(&mut self, name: String, content: Option<Content>, event: Event) -> Result<(), Ended> {
        match self.talk.hub.data.offer(name.into(), content, &self.session.access, Condition::Any).await {
            Ok(done) => self.puts.push_back(Put { event, done }),
            Err(error) => self.talk.fail(event, &put_refusal(&error)).await?,
        }
        Ok(())
    }

    async fn put_done(&mut self, event: Event, done: Result<Version, PutError>) -> Result<(), Ended> {
        match done {
            Ok(version) => {
                self.talk.hub.tables.notify_one();
                self.talk.answer(event, json!({ "version": version.seq }))?;
            }
            Err(error) => self.talk.fail(event, &put_refusal(&error)).await?,
        }
        Ok(())
    }

    fn follow(&mut self, board: &'static str, pattern: &str, cursor: Option<&str>) -> Result<(), Refusal> {
        let limit = |text: String| Refusal { code: Code::Limit, text, retry_ms: None };
        let pattern = Pattern::parse(pattern).map_err(|error| limit(error.to_string()))?;
        if self.outbox.follows() >= FOLLOWS_MAX {
            return Err(limit(format!("a client follows at most {FOLLOWS_MAX} patterns")));
        }
        if self.outbox.has(board, pattern.as_bytes()) {
            return Err(limit("this is followed already".to_owned()));
        }
        // One that is not understood is as good as none: its client begins anew, and is told so by `reset`.
        let cursor = cursor.and_then(|text| cursor::read(text, board, pattern.as_bytes()).ok().flatten());
        let (what, pattern) = self.talk.hub.to_follow(board, pattern, &self.session.access)?;
        what.wakers.add(&self.awake);
        self.outbox.follow(Follow::new(board, &what.board, pattern, cursor, false));
        Ok(())
    }

    /// Who is here, now and, by `client`, from now on.
    fn clients(&mut self) -> Result<Json, Refusal> {
        let pattern = Pattern::parse(CLIENTS).map_err(|error| misused(&error.to_string()))?;
        let (what, pattern) = self.talk.hub.to_follow("fleet", pattern, &self.session.access)?;
        let (present, mut version) = self.talk.hub.fleet.present(&self.session.access);
        let list: Vec<Json> = present.iter().map(|row| super::follow::client(row)).collect();
        version.epoch = pattern.disguised(version.epoch);
        self.outbox.unfollow(self.session, "fleet", pattern.as_bytes());
        what.wakers.add(&self.awake);
        let from = board::Cursor { version, seen: version.seq, walk: None };
        self.outbox.follow(Follow::new("fleet", &what.board, pattern, Some(from), true));
        Ok(json!({ "clients": list }))
    }
}

/// Of `fleet`, who is here.
const CLIENTS: &str = "client/*";

/// The first put that is done; they are done in their order. Never resolves while there is none.
async fn stored(data: &Data, puts: &mut VecDeque<Put>) -> (Event, Result<Version, PutError>) {
    let Some(first) = puts.front_mut() else { return std::future::pending().await };
    let done = data.done(&mut first.done).await.map(|put| put.version);
    match puts.pop_front() {
        Some(put) => (put.event, done),
        None => std::future::pending().await,
    }
}

/// `follow("a/*")`, or `follow({board, pattern, cursor})`.
fn asked_for(event: &Event) -> Result<(&'static str, String, Option<String>), Refusal> {
    let usage = || misused("follow(pattern), or follow({board: \"data\" or \"fleet\", pattern, cursor})");
    let text = |key: &str| event.json(0).and_then(|o| o.get(key)).and_then(Json::as_str);
    if let Some(pattern) = event.text(0) {
        return Ok(("data", pattern.to_owned(), None));
    }
    let board = match text("board") {
        None | Some("data") => "data",
        Some("fleet") => "fleet",
        Some(_) => return Err(usage()),
    };
    let pattern = text("pattern").ok_or_else(usage)?;
    Ok((board, pattern.to_owned(), text("cursor").map(str::to_owned)))
}

fn misused(usage: &str) -> Refusal {
    Refusal { code: Code::Protocol, text: format!("not understood; it is: {usage}"), retry_ms: None }
}
