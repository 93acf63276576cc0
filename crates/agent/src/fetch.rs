//! Fetches contents of one share over a bulk connection, which is opened when the first is needed.
//!
//! Wants are sent ahead of what arrives, as many as the limit of bytes under way allows, so that small files flow; large
//! contents come as recipes and chunks ([`crate::assemble`]). Everything is verified by its hash before the keeper gets
//! it. A connection that is cut loses nothing: what was asked for is asked for again.

use crate::assemble::{Assembler, Chore, Report};
use crate::conn::{ConnError, Incoming, Outbox, Outgoing, Stream};
use crate::holding::{Arrived, Wanted};
use crate::mailbox::{Letter, Mailbox};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tree::{ContentId, Dir, RelPath, chunk};
use wire::limits::{CHUNK_BYTES_MAX, CONTENT_WHOLE_BYTES_MAX, WANTED_CHUNKS_MAX, WANTS_MAX};
use wire::message::{Hash, ToClient, ToHub};

/// Bytes of contents that were asked for and that the keeper has not taken yet.
const UNDER_WAY_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// The limit is kept in units of this many bytes; the smallest content counts as one.
const UNIT_BYTES: u64 = 1024;
/// Bytes of chunks of one large content that were asked for and are not on disk yet.
const CHUNK_BYTES_UNDER_WAY: u64 = 8 * 1024 * 1024;
/// Large contents that are put together at the same time.
const LARGE_MAX: usize = 2;
/// A content that is as long as this is not believed to fit anywhere.
const CHUNKS_IN_ALL_MAX: usize = 16 * 1024 * 1024;
/// A hub that owes contents and says nothing for this long is not waited for.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// After a bulk connection that failed.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Opens one more bulk connection of the session, attached and ready.
pub(crate) type Connect = Arc<dyn Fn() -> Connecting + Send + Sync>;
/// A bulk connection being opened.
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, ConnError>> + Send>>;
/// The session, as long as there is one.
pub(crate) type SessionWatch = watch::Receiver<Option<Connect>>;

/// The way to a share's fetching task; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Fetch {
    commands: mpsc::UnboundedSender<Command>,
    content_bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Command {
    Want(Vec<Wanted>),
    Forget(Vec<ContentId>),
}

impl Fetch {
    /// Starts the task on the runtime this is called in. Contents go to `mailbox`, large ones by way of `dest`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        share: String,
        mailbox: Arc<Mailbox>,
        dest: Dir,
        session: SessionWatch,
    ) -> std::io::Result<Fetch> {
        let (commands, receive) = mpsc::unbounded_channel();
        let (assembler, reports) = Assembler::start(dest)?;
        let content_bytes = Arc::new(AtomicU64::new(0));
        let task = Task {
            share,
            mailbox,
            commands: receive,
            assembler,
            reports,
            session,
            content_bytes: Arc::clone(&content_bytes),
            items: HashMap::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            budget: Arc::new(Semaphore::new(usize::try_from(u64::from(UNDER_WAY_BYTES_MAX) / UNIT_BYTES).unwrap_or(1))),
        };
        tokio::spawn(task.run());
        Ok(Fetch { commands, content_bytes })
    }

    /// For what is always at hand: nothing is ever asked for.
    pub(crate) fn nothing() -> Fetch {
        Fetch { commands: mpsc::unbounded_channel().0, content_bytes: Arc::default() }
    }

    /// Asks for contents; each is answered by [`Letter::Content`] or [`Letter::Gone`].
    pub(crate) fn want(&self, wanted: Vec<Wanted>) {
        if !wanted.is_empty() {
            self.say(Command::Want(wanted));
        }
    }

    /// Nobody needs these any more; some may come all the same.
    pub(crate) fn forget(&self, contents: Vec<ContentId>) {
        if !contents.is_empty() {
            self.say(Command::Forget(contents));
        }
    }

    /// Bytes of contents received, counted as they come.
    pub(crate) fn content_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.content_bytes)
    }

    fn say(&self, command: Command) {
        // The task ends before its owner only when the runtime does.
        let _taken = self.commands.send(command);
    }
}

/// A content on its way.
struct Item {
    size_bytes: u64,
    path: RelPath,
    state: State,
}

enum State {
    /// Not asked for.
    Queued,
    /// Asked for as a whole.
    Asked(OwnedSemaphorePermit),
    /// Large, and its recipe is coming; more than `total` chunks never come.
    Recipe(Vec<(Hash, u32)>),
    /// Large, its chunks are coming.
    Chunks(Chunks),
}

struct Chunks {
    recipe: Vec<(Hash, u32)>,
    missing: VecDeque<u32>,
    /// Asked for on this connection, not here yet.
    asked: Vec<u32>,
    under_way_bytes: u64,
    /// This connection's recipe is the one we work by; `None` until it came again.
    again: Option<Vec<(Hash, u32)>>,
}

struct Task {
    share: String,
    mailbox: Arc<Mailbox>,
    commands: mpsc::UnboundedReceiver<Command>,
    assembler: Assembler,
    reports: mpsc::UnboundedReceiver<Report>,
    session: SessionWatch,
    content_bytes: Arc<AtomicU64>,
    items: HashMap<ContentId, Item>,
    small: VecDeque<ContentId>,
    large: VecDeque<ContentId>,
    budget: Arc<Semaphore>,
}

/// What ends a connection.
enum End {
    /// The keeper is gone.
    Stop,
    Failed(ConnError),
}

impl Task {
    async fn run(mut self) {
        loop {
            while self.items.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.take(command),
                    None => return,
                }
            }
            let stream = match self.connect().await {
                Ok(stream) => stream,
                Err(End::Stop) => return,
                Err(End::Failed(error)) => {
                    tracing::warn!(share = %self.share, "contents cannot be fetched now: {error}");
                    tokio::time::sleep(RECONNECT_AFTER).await;
                    continue;
                }
            };
            self.begin_again();
            match self.serve(stream).await {
                End::Stop => return,
                End::Failed(error) => {
                    if !self.items.is_empty() {
                        tracing::warn!(share = %self.share, "the bulk connection ended: {error}");
                        tokio::time::sleep(RECONNECT_AFTER).await;
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<Box<dyn Stream>, End> {
        loop {
            let connect = self.session.borrow_and_update().clone();
            let mut connecting = std::pin::pin!(async {
                match connect {
                    Some(connect) => connect().await,
                    // No session: there is nothing to be done but to wait for one.
                    None => std::future::pending().await,
                }
            });
            // Commands come all the time and must not make it begin anew.
            loop {
                tokio::select! {
                    command = self.commands.recv() => match command {
                        Some(command) => self.take(command),
                        None => return Err(End::Stop),
                    },
                    changed = self.session.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Err(End::Stop),
                    },
                    connected = &mut connecting => return connected.map_err(End::Failed),
                }
            }
        }
    }

    async fn serve(&mut self, stream: Box<dyn Stream>) -> End {
        let (read, write) = tokio::io::split(stream);
        let mut incoming = Incoming::new(read);
        incoming.logged_in();
        let outbox = Outbox::new(0);
        // Written by a task of its own: a hub that waits for us to read must not make us wait for it to read.
        let writing = Arc::clone(&outbox);
        let mut writer = tokio::task::JoinSet::new();
        writer.spawn(async move { writing.drain(Outgoing::new(write)).await });
        loop {
            let next_units = self.ask(&outbox);
            let owed = self.items.values().any(|item| !matches!(item.state, State::Queued));
            let budget = Arc::clone(&self.budget);
            tokio::select! {
                message = incoming.next() => match message {
                    Ok(Some(message)) => {
                        if let Err(error) = self.hear(message) {
                            return End::Failed(error);
                        }
                    }
                    Ok(None) => return End::Failed(ConnError::Cut),
                    Err(error) => return End::Failed(error),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return End::Stop,
                },
                report = self.reports.recv() => match report {
                    Some(report) => self.assembled(report),
                    None => return End::Stop,
                },
                // Given back at once: it only says that there is room now.
                room = budget.acquire_many_owned(next_units.unwrap_or(0)), if next_units.is_some() => drop(room),
                written = writer.join_next() => {
                    return End::Failed(match written {
                        Some(Ok(Err(error))) => error,
                        _ => ConnError::Cut,
                    });
                }
                () = tokio::time::sleep(SILENCE_MAX), if owed => {
                    return End::Failed(ConnError::Silent { for_s: SILENCE_MAX.as_secs() });
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Want(wanted) => {
                for Wanted { content, size_bytes, path } in wanted {
                    let large = size_bytes > CONTENT_WHOLE_BYTES_MAX as u64;
                    let item = Item { size_bytes, path, state: State::Queued };
                    if self.items.insert(content, item).is_some() {
                        self.assembler.give(Chore::Drop(content));
                    }
                    if large { &mut self.large } else { &mut self.small }.push_back(content);
                }
            }
            Command::Forget(contents) => {
                for content in contents {
                    if let Some(Item { state: State::Chunks(_) | State::Recipe(_), .. }) = self.items.remove(&content) {
                        self.assembler.give(Chore::Drop(content));
                    }
                }
            }
        }
    }

    /// A new connection: what was asked for on the old one is asked for again.
    fn begin_again(&mut self) {
        for (content, item) in &mut self.items {
            match &mut item.state {
                State::Queued => {}
                State::Asked(_) => {
                    item.state = State::Queued;
                    self.small.push_front(*content);
                }
                State::Recipe(_) => {
                    item.state = State::Queued;
                    self.large.push_front(*content);
                }
                State::Chunks(chunks) => {
                    for index in std::mem::take(&mut chunks.asked) {
                        chunks.missing.push_front(index);
                    }
                    chunks.under_way_bytes = 0;
                    chunks.again = Some(Vec::new());
                    // At the front, to go on with what is begun.
                    self.large.push_front(*content);
                }
            }
        }
    }

    /// Asks for as much as may be under way. What the next content needs, where it does not fit.
    fn ask(&mut self, outbox: &Outbox) -> Option<u32> {
        let mut needs = None;
        loop {
            let mut contents = Vec::new();
            while contents.len() < WANTS_MAX
                && let Some(content) = self.small.front().copied()
            {
                match self.items.get_mut(&content) {
                    Some(item) if matches!(item.state, State::Queued) => {
                        let units = units(item.size_bytes);
                        let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(units) else {
                            needs = Some(units);
                            break;
                        };
                        item.state = State::Asked(permit);
                        contents.push(content.0);
                    }
                    // Forgotten, or asked for by now.
                    _ => {}
                }
                self.small.pop_front();
            }
            if contents.is_empty() {
                break;
            }
            outbox.send(ToHub::Want { share: self.share.clone(), contents });
        }
        self.ask_large(outbox);
        needs
    }

    fn ask_large(&mut self, outbox: &Outbox) {
        let mut active = self
            .items
            .values()
            .filter(|item| match &item.state {
                State::Recipe(_) => true,
                State::Chunks(chunks) => chunks.again.is_none(),
                State::Queued | State::Asked(_) => false,
            })
            .count();
        while active < LARGE_MAX
            && let Some(content) = self.large.pop_front()
        {
            let Some(item) = self.items.get_mut(&content) else { continue };
            match &item.state {
                State::Queued => item.state = State::Recipe(Vec::new()),
                // After a new connection; `again` collects the recipe.
                State::Chunks(chunks) if chunks.again.is_some() => {}
                _ => continue,
            }
            active += 1;
            outbox.send(ToHub::Want { share: self.share.clone(), contents: vec![content.0] });
        }
        for (content, item) in &mut self.items {
            let State::Chunks(chunks) = &mut item.state else { continue };
            if chunks.again.is_some() {
                continue;
            }
            let mut indexes = Vec::new();
            while chunks.under_way_bytes < CHUNK_BYTES_UNDER_WAY
                && indexes.len() < WANTED_CHUNKS_MAX
                && let Some(index) = chunks.missing.pop_front()
            {
                chunks.under_way_bytes += len_of(&chunks.recipe, index);
                indexes.push(index);
            }
            if !indexes.is_empty() {
                // Ascending, as the hub reads the file.
                indexes.sort_unstable();
                chunks.asked.extend(&indexes);
                outbox.send(ToHub::WantChunks { share: self.share.clone(), content: content.0, chunks: indexes });
            }
        }
    }

    fn hear(&mut self, message: ToClient) -> Result<(), ConnError> {
        match message {
            ToClient::Content { content, bytes } => {
                let content = ContentId(content);
                self.content_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                // What was not asked for has no room.
                let Some(Item { size_bytes, state: State::Asked(_), .. }) = self.items.get(&content) else {
                    return Ok(());
                };
                if bytes.len() as u64 != *size_bytes || ContentId::of(&bytes) != content {
                    self.unfit(
                        content,
                        "the hub sent a content that is not what its hash and size say; it was discarded",
                    );
                } else if let Some(Item { state: State::Asked(permit), .. }) = self.items.remove(&content) {
                    self.mailbox.push(Letter::Content(content, Arrived::Bytes(bytes, Some(permit))));
                }
            }
            ToClient::Recipe { content, first, total, chunks } => {
                self.recipe(ContentId(content), first, total, chunks);
            }
            ToClient::Chunk { content, index, bytes } => {
                self.content_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                let content = ContentId(content);
                let Some(Item { state: State::Chunks(chunks), .. }) = self.items.get_mut(&content) else {
                    return Ok(());
                };
                let Some(at) = chunks.asked.iter().position(|asked| *asked == index) else { return Ok(()) };
                chunks.asked.swap_remove(at);
                if len_of(&chunks.recipe, index) != bytes.len() as u64 {
                    self.unfit(content, "the hub sent a chunk that has not the length its list says; it was discarded");
                    return Ok(());
                }
                self.assembler.give(Chore::Chunk { content, index, bytes });
            }
            ToClient::Gone { content } => {
                let content = ContentId(content);
                if self.items.remove(&content).is_some() {
                    self.gone(content);
                }
            }
            ToClient::Bye(refusal) => return Err(ConnError::Refused(refusal)),
            _ => return Err(ConnError::Unexpected("a message that is not about contents on a bulk connection")),
        }
        Ok(())
    }

    fn recipe(&mut self, content: ContentId, first: u32, total: u32, part: Vec<(Hash, u32)>) {
        let Some(item) = self.items.get_mut(&content) else { return };
        let recipe = match &mut item.state {
            State::Recipe(recipe) => recipe,
            State::Chunks(Chunks { again: Some(recipe), .. }) => recipe,
            // Nobody asked; and what is small comes whole.
            State::Queued | State::Asked(_) | State::Chunks(_) => return,
        };
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let in_order = u32::try_from(recipe.len()) == Ok(first);
        recipe.extend(part);
        let chunks_max = chunk::count_max(item.size_bytes).min(CHUNKS_IN_ALL_MAX);
        let fits = in_order && recipe.len() <= total && total <= chunks_max;
        let bytes: u64 = recipe.iter().map(|(_, len)| u64::from(*len)).sum();
        if !fits || bytes > item.size_bytes || (recipe.len() == total && bytes != item.size_bytes) {
            self.unfit(content, "the hub sent a list of chunks that is not of a file of this size");
            return;
        }
        if recipe.len() < total {
            return;
        }
        let recipe = std::mem::take(recipe);
        if let State::Chunks(chunks) = &mut item.state
            && chunks.recipe == recipe
        {
            chunks.again = None;
            return;
        }
        self.assembler.give(Chore::Begin {
            content,
            size_bytes: item.size_bytes,
            path: item.path.clone(),
            recipe: recipe.clone(),
        });
        item.state = State::Chunks(Chunks {
            recipe,
            missing: VecDeque::new(),
            asked: Vec::new(),
            under_way_bytes: 0,
            again: None,
        });
    }

    fn assembled(&mut self, report: Report) {
        match report {
            Report::Missing { content, chunks: indexes } => {
                if let Some(Item { state: State::Chunks(chunks), .. }) = self.items.get_mut(&content) {
                    chunks.missing = indexes.into();
                }
            }
            Report::Written { content, bytes } => {
                if let Some(Item { state: State::Chunks(chunks), .. }) = self.items.get_mut(&content) {
                    chunks.under_way_bytes = chunks.under_way_bytes.saturating_sub(bytes);
                }
            }
            Report::Done { content, arrived } => {
                if self.items.remove(&content).is_some() {
                    self.mailbox.push(Letter::Content(content, arrived));
                }
            }
            Report::Failed { content, why } => self.unfit(content, &why),
        }
    }

    /// A content cannot be had; that is told where it is waited for, and asked for again later.
    fn unfit(&mut self, content: ContentId, why: &str) {
        if let Some(item) = self.items.remove(&content) {
            tracing::error!(share = %self.share, path = %item.path, "{why}");
            self.assembler.give(Chore::Drop(content));
            self.mailbox.push(Letter::Unfit(content, why.to_owned()));
        }
    }

    fn gone(&mut self, content: ContentId) {
        self.assembler.give(Chore::Drop(content));
        self.mailbox.push(Letter::Gone(content));
    }
}

fn units(size_bytes: u64) -> u32 {
    u32::try_from(size_bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, UNDER_WAY_BYTES_MAX / 1024)
}

fn len_of(recipe: &[(Hash, u32)], index: u32) -> u64 {
    let at = usize::try_from(index).unwrap_or(usize::MAX);
    recipe.get(at).map_or(CHUNK_BYTES_MAX as u64, |(_, len)| u64::from(*len))
}

#[cfg(test)]
mod tests;
