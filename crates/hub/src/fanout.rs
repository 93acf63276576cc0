//! One encoding for all who follow the same.
//!
//! A [`Group`] is a board and a pattern. Whoever stands at `from` needs the same bytes: the first that asks has them
//! encoded, the others take the shared buffer. So nothing is done per message and client but the writing, and rounds
//! need no timer: while one batch is written, what is committed meanwhile gathers and becomes the next.
//!
//! A client that falls behind simply asks for an older `from`; the short way from there to the head is encoded once as
//! well, and at its end it stands where a kept batch begins. Guarded by `bench/fanout`.

use crate::counts::{Counts, Via, left_out};
use board::{Board, Follower, Limits, Mark, Pattern, Position, Told};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use wire::codec::{self, EncodeError};
use wire::limits::{BATCH_BYTES_MAX, INLINE_BYTES_MAX, INLINE_ENTRIES_MAX};
use wire::message::{self, Hash, ToClient};

/// Entries of one batch at most; what a client holds is bounded by this and [`BATCH_BYTES_MAX`].
const BATCH_ENTRIES_MAX: usize = 512;
/// Encoded bytes kept for those who are a little behind.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Batches kept.
const KEPT_MAX: usize = 256;

/// What a share adds to its board's batches; `data` and `fleet` have none of it.
pub(crate) trait Extras: Send + Sync {
    /// The content of a file whose encoded entry is `value`, where it is small and at hand.
    fn inline(&self, value: &[u8]) -> Option<Bytes>;
    /// The root of the share at exactly `seq`; `None` when it is no longer known.
    fn root_at(&self, seq: u64) -> Option<Hash>;
}

/// All who follow one pattern of one board.
pub(crate) struct Group {
    /// What its batches carry.
    pub(crate) number: u32,
    /// What is followed.
    pub(crate) board: Board,
    /// Which names of it.
    pub(crate) pattern: Pattern,
    extras: Option<Arc<dyn Extras>>,
    counts: Arc<Counts>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    batches: VecDeque<Shared>,
    bytes: usize,
}

#[derive(Clone)]
struct Shared {
    mark: Mark,
    told: Told,
    /// Versions that it leaves out.
    left_out: u64,
    frame: Bytes,
}

impl Shared {
    fn begins_at(&self, seq: u64) -> bool {
        matches!(self.mark, Mark::Live { from, .. } if from == seq)
    }
}

impl Group {
    pub(crate) fn new(
        number: u32,
        board: Board,
        pattern: Pattern,
        extras: Option<Arc<dyn Extras>>,
        counts: Arc<Counts>,
    ) -> Self {
        Self { number, board, pattern, extras, counts, kept: Mutex::default() }
    }

    /// What `follower` needs next, and moves it there; `None` at the head.
    pub(crate) fn next(self: &Arc<Self>, follower: &mut Follower) -> Result<Option<Bytes>, EncodeError> {
        if let Position::Live(from) = follower.position()
            && from < self.board.head()
            && let Some(shared) = self.shared(from, Arc::strong_count(self) > 1)?
        {
            follower.advance_live(&shared.mark, shared.told);
            self.counts.told(Via::Native).left_out(shared.left_out);
            return Ok(Some(shared.frame));
        }
        let limits = Limits { entries: BATCH_ENTRIES_MAX, bytes: BATCH_BYTES_MAX };
        follower.next(limits).map(|batch| self.encode(batch)).transpose()
    }

    /// The batch that begins at `from`: a kept one, or a new one, kept if there is anybody else to take it.
    fn shared(&self, from: u64, keep: bool) -> Result<Option<Shared>, EncodeError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = kept.batches.iter().rev().find(|kept| kept.begins_at(from)) {
            return Ok(Some(shared.clone()));
        }
        let limits = Limits { entries: BATCH_ENTRIES_MAX, bytes: BATCH_BYTES_MAX };
        let Some((batch, told)) = board::live_batch(&self.board, &self.pattern, from, limits) else { return Ok(None) };
        let left_out = left_out(&batch, &self.pattern);
        let shared = Shared { mark: batch.mark.clone(), told, left_out, frame: self.encode(batch)? };
        if !keep {
            return Ok(Some(shared));
        }
        kept.bytes += shared.frame.len();
        kept.batches.push_back(shared.clone());
        while kept.bytes > KEPT_BYTES_MAX || kept.batches.len() > KEPT_MAX {
            let Some(oldest) = kept.batches.pop_front() else { break };
            kept.bytes -= oldest.frame.len();
        }
        Ok(Some(shared))
    }

    fn encode(&self, batch: board::Batch) -> Result<Bytes, EncodeError> {
        let live = matches!(batch.mark, Mark::Live { .. });
        let inline = live && batch.records.len() <= INLINE_ENTRIES_MAX;
        let mut room = BATCH_BYTES_MAX;
        let records = batch
            .records
            .into_iter()
            .map(|record| {
                let content = match (&self.extras, &record.value) {
                    (Some(extras), Some(value)) if inline => extras
                        .inline(value)
                        .filter(|content| content.len() <= INLINE_BYTES_MAX && content.len() <= room),
                    _ => None,
                };
                room -= content.as_ref().map_or(0, Bytes::len);
                message::Record { name: record.name, seq: record.seq, value: record.value, inline: content }
            })
            .collect();
        let mark = match batch.mark {
            Mark::Live { from, to, view, current } => {
                let current = current.then(|| self.root_at(to)).flatten();
                message::Mark::Live { from, to, view, current }
            }
            Mark::Walk { head, upto, last, reset } => message::Mark::Walk { head, upto, last, reset },
        };
        codec::encode_frame(&ToClient::Batch(message::Batch { group: self.number, records, mark }))
    }

    fn root_at(&self, seq: u64) -> Option<Hash> {
        match &self.extras {
            Some(extras) => extras.root_at(seq),
            None => Some([0; 32]),
        }
    }
}
