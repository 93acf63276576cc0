//! A client that is in: a reader that does one command after another, and a writer that sends answers first, then for
//! each pattern what its cursor lacks.
//!
//! An answer and a batch of values are each written as a whole, so lines of one never stand inside the other. The writer
//! holds no values for a client: who does not read costs one batch and its cursors, and its reader stops with it.

use super::grammar::{self, COMMANDS, Command};
use super::lines::Piece;
use super::{GOODBYE_MAX, Incoming, To, quote, refusal_line};
use crate::answers::{put_refusal, refusal};
use crate::core::Hub;
use crate::counts::{Counts, Via};
use crate::cursor::Passage;
use crate::presence::Session;
use board::{Batch, Follower, Limits, Mark, Pattern, Record};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};
use wire::codec::decode_stored;
use wire::limits::{FOLLOWS_MAX, VALUE_BYTES_MAX, VALUE_NAME_BYTES_MAX};
use wire::message::{Code, Content, Refusal};

/// A line: a command, a name and a value, each byte written in the longest way there is.
const LINE_BYTES_MAX: usize = 6 * (VALUE_BYTES_MAX + VALUE_NAME_BYTES_MAX) + 64;
/// A batch is small, so that what is replaced while it is written is skipped.
const BATCH: Limits = Limits { entries: 64, bytes: 16 << 10 };
/// Nothing of a line was taken by the client for this long: it is cut. Most are cut earlier, by the system.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// The board that is followed here.
pub(super) const BOARD: &str = "data";
/// The content types that a value is put with.
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

enum Order {
    Say(Vec<u8>),
    Follow(Box<Follow>),
    Unfollow(Option<Pattern>),
    /// Everything that was asked for, then the end.
    Finish(String),
    /// The end, without anything else.
    Goodbye(String),
}

/// Serves a client until it ends; says why it did. `first` was typed before it was in.
pub(super) async fn serve(
    hub: &Arc<Hub>,
    session: &Arc<Session>,
    incoming: &mut Incoming,
    to: To,
    first: Option<Vec<u8>>,
) -> String {
    // One answer waits while one is written; then the reader waits too.
    let (orders, queue) = mpsc::channel(1);
    let awake = Arc::new(Notify::new());
    let counts = Arc::clone(&hub.counts);
    let write = Writer { to, queue, awake: Arc::clone(&awake), session, counts, follows: Vec::new() }.run();
    let read = Reader { hub, session, orders: orders.clone(), awake, follows: BTreeSet::new() }.run(incoming, first);
    tokio::pin!(write, read);
    let mut stopping = hub.stopping.subscribe();
    let mut why = None;
    let goodbye = loop {
        tokio::select! {
            written = &mut write => {
                return why.or(written.err().map(|e| e.to_string())).unwrap_or_else(|| "closed".to_owned());
            }
            // What it asked for before still goes out.
            ended = &mut read, if why.is_none() => match ended {
                Left::InOrder(asked) => why = Some(asked.to_owned()),
                Left::Broken(error) => return error,
            },
            refusal = session.ended() => break refusal,
            _ = stopping.wait_for(|stop| *stop) => break hub.farewell.refusal(),
        }
    };
    let told = async {
        if orders.send(Order::Goodbye(refusal_line("bye", &goodbye))).await.is_ok()
            && let Err(error) = write.await
        {
            tracing::debug!(%error, "a goodbye did not get out");
        }
    };
    // Who does not read gets no goodbye; the cut says it.
    if tokio::time::timeout(GOODBYE_MAX, told).await.is_err() {
        tracing::debug!("a goodbye did not get out in time");
    }
    goodbye.text
}

struct Reader<'a> {
    hub: &'a Arc<Hub>,
    session: &'a Arc<Session>,
    orders: mpsc::Sender<Order>,
    awake: Arc<Notify>,
    follows: BTreeSet<Pattern>,
}

/// There is nobody left to be told anything.
struct Gone;

/// How the reader ended.
enum Left {
    /// The writer was told to finish.
    InOrder(&'static str),
    /// Nothing can be said any more.
    Broken(String),
}

impl Reader<'_> {
    async fn run(mut self, incoming: &mut Incoming, first: Option<Vec<u8>>) -> Left {
        match self.converse(incoming, first).await {
            Ok(left) => left,
            Err(Gone) => Left::Broken("its connection ended".to_owned()),
        }
    }

    async fn converse(&mut self, incoming: &mut Incoming, mut first: Option<Vec<u8>>) -> Result<Left, Gone> {
        let name = &self.hub.name;
        let mut welcome = format!("welcome {} ", self.session.id);
        quote::write_value(&mut welcome, name.as_bytes());
        self.say(format!("{welcome}\n# help lists the commands\n")).await?;
        loop {
            let piece = match first.take() {
                Some(line) => Ok(Some(Piece::Line(line))),
                None => incoming.next(LINE_BYTES_MAX).await,
            };
            if piece.is_ok() {
                self.session.seen();
            }
            match piece {
                Ok(Some(Piece::Line(line))) => {
                    let answer = match grammar::parse(&line) {
                        Ok(Command::Quit) => {
                            self.order(Order::Finish("bye quit\n".to_owned())).await?;
                            return Ok(Left::InOrder("quit"));
                        }
                        Ok(command) => self.obey(command).await?,
                        Err(mistake) => Err(refusal(Code::Protocol, mistake.to_string())),
                    };
                    match answer {
                        Ok(text) if text.is_empty() => {}
                        Ok(text) => self.say(text).await?,
                        Err(refusal) => self.say(refusal_line("error", &refusal)).await?,
                    }
                }
                Ok(Some(Piece::TooLong)) => {
                    let text = format!(
                        "a line has at most {LINE_BYTES_MAX} bytes, a value {VALUE_BYTES_MAX}: share a file instead"
                    );
                    self.say(refusal_line("error", &refusal(Code::Limit, text))).await?;
                }
                Ok(Some(Piece::Decline(answer))) => self.order(Order::Say(answer.to_vec())).await?,
                Ok(None) => {
                    // Half a line may be half of a value: it is never acted on.
                    let last = match incoming.lines.is_inside() {
                        true => "bye closed the last line had no end, and was not looked at\n",
                        false => "bye closed\n",
                    };
                    self.order(Order::Finish(last.to_owned())).await?;
                    return Ok(Left::InOrder("closed"));
                }
                Err(error) => return Ok(Left::Broken(error.to_string())),
            }
        }
    }

    /// Does a command; its answer is whole lines, of which the last begins with `ok` or `error`.
    async fn obey(&mut self, command: Command) -> Result<Result<String, Refusal>, Gone> {
        Ok(match command {
            Command::Nothing | Command::Quit => Ok(String::new()),
            Command::Put { name, value } => {
                let content_type = if std::str::from_utf8(&value).is_ok() { TEXT } else { BYTES };
                self.put(name, Some(Content { content_type: content_type.to_owned(), bytes: value })).await
            }
            Command::Remove { name } => self.put(name, None).await,
            Command::Get { name } => self.get(&name),
            Command::Follow { pattern, since } => {
                if self.follows.len() >= FOLLOWS_MAX && !self.follows.contains(&pattern) {
                    let text = format!("a connection follows at most {FOLLOWS_MAX} patterns: unfollow one");
                    return Ok(Err(refusal(Code::Limit, text)));
                }
                let (what, part) = match self.hub.to_follow(BOARD, pattern.clone(), &self.session.access) {
                    Ok(followable) => followable,
                    Err(refusal) => return Ok(Err(refusal)),
                };
                // Awake first, so that nothing is missed between the look at the board and the first sleep.
                what.wakers.add(&self.awake);
                let follower = Follower::new(&what.board, part, since.clone());
                let passage = Passage::begin(BOARD, &follower, since);
                self.follows.insert(pattern);
                self.order(Order::Follow(Box::new(Follow { follower, told: false, passage }))).await?;
                Ok(String::new())
            }
            Command::Unfollow { pattern } => {
                if let Some(pattern) = &pattern
                    && !self.follows.remove(pattern)
                {
                    let text =
                        "that pattern is not followed: type it as in its current line, or unfollow alone for all";
                    return Ok(Err(refusal(Code::NotFound, text.to_owned())));
                }
                if pattern.is_none() {
                    self.follows.clear();
                }
                self.order(Order::Unfollow(pattern)).await?;
                Ok("ok\n".to_owned())
            }
            Command::Clients => Ok(self.clients()),
            Command::Help => Ok(help()),
        })
    }

    async fn put(&self, name: Bytes, content: Option<Content>) -> Result<String, Refusal> {
        let version = self.hub.data.put(name, content, &self.session.access).await.map_err(|e| put_refusal(&e))?;
        self.hub.tables.notify_one();
        Ok(format!("ok {}\n", version.seq))
    }

    fn get(&self, name: &[u8]) -> Result<String, Refusal> {
        let (version, stored) = self.hub.data.get(name, &self.session.access)?.ok_or_else(|| {
            let mut text = "there is no value called ".to_owned();
            quote::write_word(&mut text, name);
            refusal(Code::NotFound, text)
        })?;
        let mut lines = String::new();
        value_line(&mut lines, version.seq, name, &stored.content.bytes);
        lines.push_str("ok\n");
        Ok(lines)
    }

    /// Who is here, by id.
    fn clients(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Present {
            id: u64,
            name: String,
            address: String,
            transport: String,
        }
        let (rows, _) = self.hub.fleet.present(&self.session.access);
        let mut present: Vec<Present> = rows.iter().filter_map(|row| serde_json::from_slice(row).ok()).collect();
        present.sort_by_key(|client| client.id);
        let mut lines = String::new();
        for Present { id, name, address, transport } in &present {
            lines.push_str(&format!("client {id} {transport} {address} "));
            quote::write_value(&mut lines, name.as_bytes());
            lines.push('\n');
        }
        lines + &format!("ok {}\n", present.len())
    }

    async fn say(&self, text: String) -> Result<(), Gone> {
        self.order(Order::Say(text.into_bytes())).await
    }

    async fn order(&self, order: Order) -> Result<(), Gone> {
        self.orders.send(order).await.map_err(|_| Gone)
    }
}

fn help() -> String {
    let mut lines = String::new();
    for (_, usage, what) in COMMANDS {
        lines.push_str(&format!("# {usage:31} {what}\n"));
    }
    lines.push_str("# Every command ends with a line that begins with ok or error.\n");
    lines.push_str("# What is not clean text stands in quotes, as a JSON string; \\xff is a byte.\n");
    lines + "ok\n"
}

fn value_line(lines: &mut String, seq: u64, name: &[u8], value: &[u8]) {
    lines.push_str(&format!("value {seq} "));
    quote::write_word(lines, name);
    lines.push(' ');
    quote::write_value(lines, value);
    lines.push('\n');
}

/// A pattern that is followed.
struct Follow {
    follower: Follower,
    /// It was `current` at least once.
    told: bool,
    passage: Passage,
}

impl Follow {
    /// The answer to the command that began it.
    fn begun(&self) -> String {
        let from = if self.follower.start().reset { "all" } else { "since" };
        let mut line = format!("ok {from} ");
        quote::write_word(&mut line, self.follower.pattern().as_bytes());
        line + "\n"
    }

    /// What is next, as lines; `None` while there is nothing.
    fn next(&mut self, counts: &Counts) -> Option<String> {
        let batch = self.follower.next(BATCH)?;
        counts.told(Via::Text).sent(&batch, self.follower.pattern());
        self.passage.passed_all(&batch);
        let Batch { records, mark } = batch;
        let mut lines = String::new();
        for Record { name, seq, value, .. } in records {
            match value.as_deref().map(decode_stored) {
                Some(Ok(stored)) => value_line(&mut lines, seq, &name, &stored.content.bytes),
                None => {
                    lines.push_str(&format!("gone {seq} "));
                    quote::write_word(&mut lines, &name);
                    lines.push('\n');
                }
                Some(Err(error)) => tracing::error!(%error, seq, "a stored value cannot be read, and was not sent"),
            }
        }
        if matches!(mark, Mark::Live { current: true, .. }) {
            self.told = true;
            lines.push_str(&format!("current {} ", self.passage.text()));
            quote::write_word(&mut lines, self.follower.pattern().as_bytes());
            lines.push('\n');
        }
        Some(lines)
    }
}

struct Writer<'a> {
    to: To,
    queue: mpsc::Receiver<Order>,
    awake: Arc<Notify>,
    session: &'a Session,
    counts: Arc<Counts>,
    follows: Vec<Follow>,
}

impl Writer<'_> {
    async fn run(mut self) -> io::Result<()> {
        loop {
            while let Ok(order) = self.queue.try_recv() {
                if !self.obey(order).await? {
                    return Ok(());
                }
            }
            if self.round(false).await? {
                continue;
            }
            tokio::select! {
                order = self.queue.recv() => match order {
                    Some(order) => {
                        if !self.obey(order).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                () = self.awake.notified() => {}
            }
        }
    }

    /// Sends one batch of each pattern in turn, so that none starves another; says whether there was any.
    async fn round(&mut self, only_untold: bool) -> io::Result<bool> {
        let mut wrote = false;
        for follow in self.follows.iter_mut().filter(|follow| !only_untold || !follow.told) {
            if let Some(lines) = follow.next(&self.counts) {
                write(&mut self.to, lines.as_bytes()).await?;
                self.session.seen();
                wrote = true;
            }
        }
        Ok(wrote)
    }

    /// By how it was written: what it was narrowed to is none of its client's business.
    fn end_follow(&mut self, pattern: &Pattern) {
        self.follows.retain(|follow| follow.follower.pattern().as_bytes() != pattern.as_bytes());
    }

    /// Carries out an order; `false` ends the connection.
    async fn obey(&mut self, order: Order) -> io::Result<bool> {
        match order {
            Order::Say(lines) => write(&mut self.to, &lines).await?,
            Order::Follow(follow) => {
                write(&mut self.to, follow.begun().as_bytes()).await?;
                self.end_follow(follow.follower.pattern());
                self.follows.push(*follow);
            }
            Order::Unfollow(None) => self.follows.clear(),
            Order::Unfollow(Some(pattern)) => self.end_follow(&pattern),
            Order::Finish(last) => {
                while self.round(true).await? {}
                return self.end(&last).await;
            }
            Order::Goodbye(last) => return self.end(&last).await,
        }
        Ok(true)
    }

    async fn end(&mut self, last: &str) -> io::Result<bool> {
        write(&mut self.to, last.as_bytes()).await?;
        self.to.shutdown().await?;
        Ok(false)
    }
}

/// Writes all, as long as some of it is taken from time to time.
async fn write(to: &mut To, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = tokio::time::timeout(WRITE_MAX, to.write(bytes)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("nothing was taken for {} s", WRITE_MAX.as_secs()))
        })??;
        bytes = &bytes[taken..];
    }
    Ok(())
}
