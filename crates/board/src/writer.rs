//! The one writer of a board: gives seqs at commit, in commit order, stores first and shows then.

use crate::index::{Board, Index, NAME_BYTES_MAX, Name, Record};
use crate::mutant::{self, Mutant};
use crate::store::{Meta, Store, StoreError};
use crate::version::Lineage;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use thiserror::Error;

/// One change of a board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Gives the name a value, and a new seq also if the value is the same.
    Put {
        /// The name.
        name: Name,
        /// Its value.
        value: Bytes,
        /// What is noted beside it here; never sent.
        aside: Bytes,
    },
    /// Takes the name's value away, leaving a tombstone. Nothing, if the name has none.
    Remove {
        /// The name.
        name: Name,
    },
    /// Replaces what is noted beside a name's value, without a new seq. Nothing, if the name has no value.
    Aside {
        /// The name.
        name: Name,
        /// What is noted beside its value from now on.
        aside: Bytes,
    },
}

/// The seqs that a commit gave: those above `from` up to and including `to`. None, if they are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The head before.
    pub from: u64,
    /// The head since.
    pub to: u64,
}

/// What decides whether a store's history goes on.
pub struct OpenOptions {
    /// Whether the store outlives the process; if not, each opening begins a new epoch.
    pub durable: bool,
    /// What names this boot of the machine (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Random numbers for the run and the epoch: from the system outside of tests.
    pub entropy: Box<dyn FnMut() -> u64 + Send>,
}

/// The one writer of a board, and the owner of its store.
///
/// After a failed commit the writer goes on: seqs that a failed commit would have given are never given again, and what
/// may have reached the store is put right there with the next commit that succeeds.
pub struct Writer {
    store: Box<dyn Store>,
    board: Board,
    notes: BTreeMap<String, Vec<u8>>,
    /// Above all seqs ever handed to the store.
    next_seq: u64,
    /// The names whose stored entries are in doubt since a commit failed.
    doubtful: BTreeMap<Name, ()>,
    /// Whether the store knows the board as complete.
    stored_complete: bool,
}

/// In front of the keys of notes, so that they never meet the board's own facts.
const NOTE: &str = "note/";

impl Writer {
    /// Loads the board and lists a new run of it.
    ///
    /// The epoch stays if the store is durable, has one, and was closed or is opened in the same boot; otherwise history
    /// may have been lost: the records stay, the tombstones go, and all cursors of before walk from zero.
    ///
    /// # Errors
    /// When the store cannot be read or written, or what it holds is damaged.
    pub fn open(mut store: Box<dyn Store>, options: OpenOptions) -> Result<Writer, BoardError> {
        let OpenOptions { durable, boot_id, mut entropy } = options;
        let mut records = Vec::new();
        let meta = store.load(&mut |record| records.push(record))?;
        let before = Lineage::read(&meta)?;
        let newest = records.iter().map(|record| record.seq).max().unwrap_or(0);
        let last = newest.max(before.as_ref().map_or(0, |lineage| lineage.horizon));
        let keep = durable && before.as_ref().is_some_and(|lineage| lineage.clean || lineage.boot_id == boot_id);
        let mut lineage = Lineage::next(before, keep, last, boot_id, &mut *entropy);
        lineage.complete |= keep && mutant::is(Mutant::CompleteByEpochAlone);
        let stored_complete = lineage.complete;
        let mut forget = Vec::new();
        records.retain(|record| {
            let stays = record.value.is_some() || record.seq > lineage.horizon;
            if !stays {
                forget.push(record.name.clone());
            }
            stays
        });
        let note = |(key, value): (&str, &[u8])| Some((key.strip_prefix(NOTE)?.to_owned(), value.to_vec()));
        let notes = meta.iter().filter_map(note).collect();
        let index = Index::load(lineage, records)?;
        let next_seq = index.head() + 1;
        let (board, doubtful) = (Board::new(index), BTreeMap::new());
        let mut writer = Writer { store, board, notes, next_seq, doubtful, stored_complete };
        let meta = writer.meta(false);
        writer.store.commit(&[], &forget, Some(&meta))?;
        Ok(writer)
    }

    /// The seq that the next change will get: who must know a commit's seqs before it is seen counts from here.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The board for readers. It begins complete if its epoch stayed and it was complete in it; otherwise
    /// [`Writer::set_complete`] says when it is.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Stores these changes as one and then shows them as one.
    ///
    /// Of several changes of one name the last counts. Readers are locked out only while the indexes are switched, about
    /// a microsecond a change.
    ///
    /// # Errors
    /// When a name is too long, or the store fails. Nothing of the commit is then shown to anyone; after a failed store
    /// a removed or added value may still be found by the next start, as with any write whose reply was lost.
    pub fn commit(&mut self, writes: Vec<Write>) -> Result<Committed, BoardError> {
        if let Some(write) = writes.iter().find(|write| write.name().len() > NAME_BYTES_MAX) {
            return Err(BoardError::NameTooLong { name_bytes: write.name().len() });
        }
        let from = self.board.head();
        let (records, to) = self.board.read(|index| plan(index, writes, self.next_seq));
        if records.is_empty() {
            return Ok(Committed { from, to: from });
        }
        // An aside alone moves no seq: the head stays.
        let to = to.unwrap_or(from);
        self.next_seq = self.next_seq.max(to + 1);
        let stored = self.store(&records);
        if stored.is_ok() || mutant::is(Mutant::ShownUnstored) {
            self.board.change().apply(records, to);
            self.board.wake(to);
        }
        stored.map(|()| Committed { from, to })
    }

    /// Purges tombstones up to `up_to`, though never past a follower that may still need them, and raises the horizon
    /// to there: a cursor below it walks from zero.
    ///
    /// # Errors
    /// When the store fails; the horizon is raised all the same, the tombstones stay.
    pub fn forget_tombstones(&mut self, up_to: u64) -> Result<(), BoardError> {
        let (names, raised) = {
            // Under the write lock no follower comes in between: one either has its pin already or sees the new horizon.
            let mut index = self.board.change();
            let horizon = up_to.min(self.board.lowest_pin()).min(index.head()).max(index.lineage().horizon);
            let raised = horizon > index.lineage().horizon;
            index.set_horizon(horizon);
            (index.tombstones_upto(horizon), raised)
        };
        if names.is_empty() && !raised {
            return Ok(());
        }
        let meta = self.meta(false);
        self.store.commit(&[], &names, Some(&meta))?;
        self.board.change().forget(&names);
        Ok(())
    }

    /// Says whether the board holds all that it should, as [`Board::set_complete`] does, and keeps that.
    ///
    /// # Errors
    /// When the store fails. What was said holds for this run; the next may begin with what was kept before.
    pub fn set_complete(&mut self, complete: bool) -> Result<(), BoardError> {
        self.board.set_complete(complete);
        self.keep_meta(false)
    }

    /// What was noted under `key` with the board.
    pub fn note(&self, key: &str) -> Option<&[u8]> {
        self.notes.get(key).map(Vec::as_slice)
    }

    /// Notes a fact with the board, for its owner alone and as durable as can be: it is never sent.
    ///
    /// # Errors
    /// When the store fails; the note may then be kept or not.
    pub fn set_note(&mut self, key: &str, value: Vec<u8>) -> Result<(), BoardError> {
        self.notes.insert(key.to_owned(), value);
        self.keep_meta(false)
    }

    /// Writes the board as it is stored now into a store of its own, the file `path`, which is missing or empty. As history
    /// goes on here, [`begin_anew`] is to be called before that store is opened in this one's place.
    ///
    /// # Errors
    /// When the store cannot be copied, or the file not be written.
    pub fn copy_to(&mut self, path: &std::path::Path) -> Result<(), BoardError> {
        if !self.doubtful.is_empty() {
            self.store(&[])?;
        }
        Ok(self.store.copy_to(path)?)
    }

    /// Ends the run: the next opening keeps the epoch also after the machine was started anew.
    ///
    /// # Errors
    /// When the store fails; the next opening then sees a run that was not closed.
    pub fn close(mut self) -> Result<(), BoardError> {
        if !self.doubtful.is_empty() {
            self.store(&[])?;
        }
        self.keep_meta(true)
    }

    fn keep_meta(&mut self, clean: bool) -> Result<(), BoardError> {
        let (meta, complete) = (self.meta(clean), self.board.complete());
        self.store.commit(&[], &[], Some(&meta))?;
        self.stored_complete = complete;
        Ok(())
    }

    /// Stores records, and with them the truth about names in doubt.
    fn store(&mut self, records: &[Record]) -> Result<(), BoardError> {
        let complete = self.board.complete();
        let meta = (complete != self.stored_complete).then(|| self.meta(false));
        let meta = meta.as_ref();
        let stored = if self.doubtful.is_empty() {
            self.store.commit(records, &[], meta)
        } else {
            let (mut all, mut forget) = (Vec::new(), Vec::new());
            for record in records {
                self.doubtful.remove(&record.name);
            }
            self.board.read(|index| {
                for name in self.doubtful.keys() {
                    match index.get(name) {
                        Some(record) => all.push(record.clone()),
                        None => forget.push(name.clone()),
                    }
                }
            });
            all.extend_from_slice(records);
            self.store.commit(&all, &forget, meta)
        };
        match stored {
            Ok(()) => {
                self.doubtful.clear();
                self.stored_complete = complete;
            }
            Err(_) => self.doubtful.extend(records.iter().map(|record| (record.name.clone(), ()))),
        }
        Ok(stored?)
    }

    fn meta(&self, clean: bool) -> Meta {
        let mut meta = Meta::default();
        let lineage = Lineage { clean, ..self.board.read(|index| index.lineage().clone()) };
        lineage.write(&mut meta);
        for (key, value) in &self.notes {
            meta.set(format!("{NOTE}{key}"), value.clone());
        }
        meta
    }
}

/// No boot of a machine is called this.
const NO_BOOT: &str = "none: an older copy was put back";

/// Notes in a store that it was put back in the place of a newer one: the next opening begins a new epoch, so nobody takes
/// what it knows of the lost history for this one's.
///
/// # Errors
/// When the store cannot be read or written, or what it holds is damaged.
pub fn begin_anew(store: &mut dyn Store) -> Result<(), StoreError> {
    let mut meta = store.load(&mut drop)?;
    let Some(lineage) = Lineage::read(&meta)? else { return Ok(()) };
    Lineage { clean: false, complete: false, boot_id: NO_BOOT.to_owned(), ..lineage }.write(&mut meta);
    store.commit(&[], &[], Some(&meta))
}

impl Write {
    /// The name that is changed.
    pub fn name(&self) -> &Name {
        match self {
            Write::Put { name, .. } | Write::Remove { name } | Write::Aside { name, .. } => name,
        }
    }
}

/// The records that `writes` make on `index`, one a name, and the last seq if any was given, from `next_seq` on.
fn plan(index: &Index, writes: Vec<Write>, next_seq: u64) -> (Vec<Record>, Option<u64>) {
    let mut last: HashMap<Name, usize> = HashMap::with_capacity(writes.len());
    let mut planned: Vec<Option<Write>> = Vec::with_capacity(writes.len());
    for write in writes {
        let name = write.name().clone();
        let earlier = last.get(&name).copied();
        if let (Write::Aside { aside: new, .. }, Some(at)) = (&write, earlier) {
            // Beside what this commit puts; a removal in it leaves nothing to note it beside.
            if let Some(Write::Put { aside, .. } | Write::Aside { aside, .. }) = &mut planned[at] {
                aside.clone_from(new);
            }
            continue;
        }
        if let Some(at) = earlier {
            planned[at] = None;
        }
        last.insert(name, planned.len());
        planned.push(Some(write));
    }
    let (mut records, mut seq) = (Vec::with_capacity(planned.len()), None);
    let mut next = || {
        let given = seq.map_or(next_seq, |seq| seq + 1);
        seq = Some(given);
        given
    };
    for write in planned.into_iter().flatten() {
        let living = index.get(write.name()).filter(|record| record.value.is_some());
        match (write, living) {
            (Write::Put { name, value, aside }, _) => {
                records.push(Record { name, seq: next(), value: Some(value), aside });
            }
            (Write::Remove { name }, Some(_)) => {
                records.push(Record { name, seq: next(), value: None, aside: Bytes::new() });
            }
            (Write::Aside { aside, .. }, Some(living)) => records.push(Record { aside, ..living.clone() }),
            (Write::Remove { .. } | Write::Aside { .. }, None) => {}
        }
    }
    (records, seq)
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("board", &self.board).finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("OpenOptions");
        debug.field("durable", &self.durable).field("boot_id", &self.boot_id).finish_non_exhaustive()
    }
}

/// Why a board could not be opened or written.
#[derive(Debug, Error)]
pub enum BoardError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name is longer than names may be. Nothing of the commit was done.
    #[error("a name of {name_bytes} bytes is too long: at most {NAME_BYTES_MAX} are allowed; shorten it")]
    NameTooLong {
        /// Its length in bytes.
        name_bytes: usize,
    },
}
