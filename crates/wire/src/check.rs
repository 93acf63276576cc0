//! What a decoded message must also be: every text, name and list within its limit, every text fit to be shown.
//!
//! Both sides check, before sending and after receiving, so that a mistake is found where it was made.

use crate::answer::{Answer, ClientChange, Question};
use crate::limits::*;
use crate::message::{
    Ack, Batch, Content, Cursor, Mark, Purpose, Record, Refusal, ShareInfo, Stored, ToClient, ToHub, Vitals, Welcome,
};
use crate::ran::Ran;
use crate::rights::RightsChange;
use crate::secret::Secret;
use thiserror::Error;

/// A field that breaks its limit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} {wrong}")]
pub struct BadMessage {
    /// Which field, in words.
    pub field: &'static str,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Wrong {
    /// Too long or too large.
    #[error("has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// What it has.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too many.
    #[error("has {count} elements, at most {max} are allowed")]
    TooMany {
        /// What it has.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing where something must be.
    #[error("is empty")]
    Empty,
    /// Control characters in a text that people see.
    #[error("has control characters")]
    Control,
    /// Numbers that cannot be.
    #[error("is no sensible number")]
    Number,
    /// Elements that must ascend and do not.
    #[error("is not in ascending order")]
    Order,
}

pub(crate) fn to_hub(message: &ToHub) -> Result<(), BadMessage> {
    match message {
        ToHub::Hello { versions: (low, high), software, purpose } => {
            require(low <= high, "the range of versions", Wrong::Number)?;
            shown("the software's name", software, SOFTWARE_BYTES_MAX)?;
            match purpose {
                Purpose::Login | Purpose::Bulk { .. } | Purpose::Relay { .. } => Ok(()),
            }
        }
        ToHub::Id { id, invite, name } => {
            length("the ID", id.len(), ID_TEXT_BYTES_MAX)?;
            length("the invite", invite.as_ref().map_or(0, Secret::bytes), INVITE_BYTES_MAX)?;
            shown("the machine's name", name, NAME_BYTES_MAX)
        }
        ToHub::UniqueId { unique_id } => length("the unique ID", unique_id.bytes(), UNIQUE_ID_TEXT_BYTES_MAX),
        ToHub::Lost | ToHub::Confirm | ToHub::Unfollow { .. } | ToHub::Ping { .. } => Ok(()),
        ToHub::Follow { fid: _, board, pattern, cursor } => {
            board_name(board)?;
            filled("the pattern", pattern.len(), ENTRY_NAME_BYTES_MAX)?;
            cursor.as_ref().map_or(Ok(()), in_cursor)
        }
        ToHub::Put { req: _, name, value } => {
            value_name(name)?;
            value.as_ref().map_or(Ok(()), content)
        }
        ToHub::Get { req: _, name } => value_name(name),
        ToHub::Ack(ack) => in_ack(ack),
        ToHub::Vitals(vitals) => in_vitals(vitals),
        ToHub::Ask { req: _, question } => in_question(question),
        ToHub::Want { share, contents } => {
            share_name(share)?;
            count("the list of contents", contents.len(), WANTS_MAX)
        }
        ToHub::WantChunks { share, content: _, chunks } => {
            share_name(share)?;
            count("the list of chunks", chunks.len(), WANTED_CHUNKS_MAX)?;
            require(chunks.is_sorted_by(|a, b| a < b), "the list of chunks", Wrong::Order)
        }
    }
}

pub(crate) fn to_client(message: &ToClient) -> Result<(), BadMessage> {
    match message {
        ToClient::Hello { version: _, software, hub } => {
            shown("the software's name", software, SOFTWARE_BYTES_MAX)?;
            shown("the hub's name", hub, NAME_BYTES_MAX)
        }
        ToClient::AskId | ToClient::AskUniqueId | ToClient::Attached => Ok(()),
        ToClient::Issued { unique_id } => length("the unique ID", unique_id.bytes(), UNIQUE_ID_TEXT_BYTES_MAX),
        ToClient::Refused(refusal) | ToClient::Bye(refusal) | ToClient::Failed { req: _, refusal } => {
            in_refusal(refusal)
        }
        ToClient::Welcome(welcome) => in_welcome(welcome),
        ToClient::Following { .. } | ToClient::PutDone { .. } | ToClient::Pong { .. } | ToClient::Gone { .. } => Ok(()),
        ToClient::Batch(batch) => in_batch(batch),
        ToClient::Got { req: _, value } => match value {
            Some((_, Stored { content: given, .. })) => content(given),
            None => Ok(()),
        },
        ToClient::Answer { req: _, answer } => in_answer(answer),
        ToClient::Content { content: _, bytes } => length("the content", bytes.len(), CONTENT_WHOLE_BYTES_MAX),
        ToClient::Recipe { content: _, first, total, chunks } => {
            count("the recipe", chunks.len(), CHUNKS_MAX)?;
            let end = u32::try_from(chunks.len()).ok().and_then(|count| first.checked_add(count));
            require(end.is_some_and(|end| end <= *total), "the place in the recipe", Wrong::Number)?;
            chunks.iter().try_for_each(|&(_, bytes)| {
                filled("a chunk of the recipe", usize::try_from(bytes).unwrap_or(usize::MAX), CHUNK_BYTES_MAX)
            })
        }
        ToClient::Chunk { content: _, index: _, bytes } => filled("the chunk", bytes.len(), CHUNK_BYTES_MAX),
    }
}

/// A value of `data` as a client gives it.
pub(crate) fn content(content: &Content) -> Result<(), BadMessage> {
    shown("the content type", &content.content_type, CONTENT_TYPE_BYTES_MAX)?;
    length("the value", content.bytes.len(), VALUE_BYTES_MAX)
}

fn in_cursor(cursor: &Cursor) -> Result<(), BadMessage> {
    match &cursor.walk {
        Some(walk) => length("the name a walk got to", walk.upto.len(), ENTRY_NAME_BYTES_MAX),
        None => Ok(()),
    }
}

fn in_ack(ack: &Ack) -> Result<(), BadMessage> {
    count("the list of problems", ack.first_problems.len(), PROBLEMS_MAX)?;
    ack.first_problems.iter().try_for_each(|(name, text)| {
        length("a problem's name", name.len(), ENTRY_NAME_BYTES_MAX)?;
        length("a problem's text", text.len(), PROBLEM_TEXT_BYTES_MAX)
    })?;
    ack.after.as_deref().map_or(Ok(()), in_ran)
}

fn in_ran(ran: &Ran) -> Result<(), BadMessage> {
    shown("how a command ended", &ran.end, RAN_END_BYTES_MAX)?;
    shown("what a command said", ran.said.as_deref().unwrap_or_default(), RAN_SAID_BYTES_MAX)
}

fn in_vitals(vitals: &Vitals) -> Result<(), BadMessage> {
    let sensible = vitals.cpu_busy_pct.is_none_or(|pct| (0.0..=100.0).contains(&pct));
    require(sensible, "the share of CPU time", Wrong::Number)
}

/// Whether a question is one that can be asked, however it came.
///
/// # Errors
/// Which field breaks its limit.
pub fn in_question(question: &Question) -> Result<(), BadMessage> {
    match question {
        Question::Status
        | Question::Clients { .. }
        | Question::Client { .. }
        | Question::Revoke { .. }
        | Question::Reissue { .. }
        | Question::Tokens
        | Question::Backup
        | Question::Leave
        | Question::Install => Ok(()),
        Question::Wait { target, clients, timeout_ms: _ } => {
            length("the share or value to wait for", target.as_ref().map_or(0, String::len), VALUE_NAME_BYTES_MAX)?;
            count("the list of clients", clients.len(), WAIT_CLIENTS_MAX)
        }
        Question::AllowDeletes { share } => share_name(share),
        Question::Token { name, id: _, may_put: _, expires_s: _, administers: _ } => {
            name.as_deref().map_or(Ok(()), token_name)
        }
        Question::RevokeToken { name } => token_name(name),
        Question::Invite { uses, expires_s, ids, rights, tags } => {
            // One that lets nobody in is nobody's wish.
            require(*uses > 0, "the number of machines that an invite is for", Wrong::Number)?;
            require(INVITE_S.contains(expires_s), "the time that an invite is good for", Wrong::Number)?;
            require(ids.is_none_or(|ids| ids.first <= ids.last), "the range of IDs", Wrong::Order)?;
            in_rights(rights)?;
            in_tags(tags)
        }
        Question::Why { target, client: _ } => {
            length("what is asked about", target.as_ref().map_or(0, String::len), ENTRY_NAME_BYTES_MAX)
        }
        Question::Administer { id: _, change } => in_change(change),
        Question::Import { rows, dry_run: _ } => {
            count("the inventory", rows.len(), IMPORT_ROWS_MAX)?;
            rows.iter().try_for_each(|row| in_change(&row.change))
        }
    }
}

/// Which are right is for the roster to say; here only that they are of a size to be looked at.
fn in_change(change: &ClientChange) -> Result<(), BadMessage> {
    length("the client's name", change.name.as_ref().map_or(0, String::len), CHANGE_TEXT_BYTES_MAX)?;
    in_tags(change.tags.as_deref().unwrap_or_default())?;
    in_tags(&change.tags_add)?;
    in_tags(&change.tags_remove)?;
    in_rights(&change.rights)
}

fn in_tags(tags: &[String]) -> Result<(), BadMessage> {
    count("the list of tags", tags.len(), CHANGE_LIST_MAX)?;
    tags.iter().try_for_each(|tag| length("a tag", tag.len(), CHANGE_TEXT_BYTES_MAX))
}

fn in_rights(rights: &RightsChange) -> Result<(), BadMessage> {
    for list in [&rights.read, &rights.put, &rights.shares].into_iter().flatten() {
        count("a list of rights", list.len(), CHANGE_LIST_MAX)?;
        list.iter().try_for_each(|pattern| length("a pattern", pattern.len(), CHANGE_TEXT_BYTES_MAX))?;
    }
    Ok(())
}

fn in_refusal(refusal: &Refusal) -> Result<(), BadMessage> {
    length("the refusal", refusal.text.len(), REFUSAL_TEXT_BYTES_MAX)
}

fn in_welcome(welcome: &Welcome) -> Result<(), BadMessage> {
    shown("the hub's name", &welcome.hub, NAME_BYTES_MAX)?;
    count("the list of shares", welcome.shares.len(), SHARES_MAX)?;
    require(welcome.silence_max_ms > 0, "the time of silence", Wrong::Number)?;
    welcome.shares.iter().try_for_each(|ShareInfo { name, .. }| share_name(name))
}

fn in_batch(batch: &Batch) -> Result<(), BadMessage> {
    count("the batch", batch.records.len(), BATCH_ENTRIES_MAX)?;
    let mut inlined = 0;
    for Record { name, seq: _, value, inline } in &batch.records {
        // Empty is the name of a share's root directory.
        length("an entry's name", name.len(), ENTRY_NAME_BYTES_MAX)?;
        length("an entry's value", value.as_ref().map_or(0, bytes::Bytes::len), STORED_BYTES_MAX)?;
        if let Some(inline) = inline {
            inlined += 1;
            length("an entry's content", inline.len(), INLINE_BYTES_MAX)?;
        }
    }
    count("the batch's contents", inlined, INLINE_ENTRIES_MAX)?;
    match &batch.mark {
        Mark::Live { from, to, view, current: _ } => {
            require(from <= to && to <= view, "the batch's mark", Wrong::Number)
        }
        Mark::Walk { upto, .. } => length("the name a walk got to", upto.len(), ENTRY_NAME_BYTES_MAX),
    }
}

/// Answers come from the hub alone, are shown to people by the command line, which escapes what it shows, and are
/// limited by their frame. Numbers are numbers in them too.
fn in_answer(answer: &Answer) -> Result<(), BadMessage> {
    match answer {
        Answer::Clients(rows) => rows.iter().filter_map(|row| row.vitals.as_ref()).try_for_each(in_vitals),
        Answer::Status(_) | Answer::Wait(_) | Answer::Link { .. } | Answer::Done => Ok(()),
        Answer::Token { .. } | Answer::Tokens(_) | Answer::Backup { .. } => Ok(()),
        Answer::Imported(_) | Answer::Why(_) | Answer::Install(_) => Ok(()),
    }
}

fn token_name(name: &str) -> Result<(), BadMessage> {
    filled("the token's name", name.len(), TOKEN_NAME_BYTES_MAX)?;
    shown("the token's name", name, TOKEN_NAME_BYTES_MAX)
}

fn board_name(name: &str) -> Result<(), BadMessage> {
    filled("the board's name", name.len(), BOARD_NAME_BYTES_MAX)?;
    shown("the board's name", name, BOARD_NAME_BYTES_MAX)
}

fn share_name(name: &str) -> Result<(), BadMessage> {
    filled("the share's name", name.len(), SHARE_NAME_BYTES_MAX)?;
    shown("the share's name", name, SHARE_NAME_BYTES_MAX)
}

fn value_name(name: &[u8]) -> Result<(), BadMessage> {
    filled("the value's name", name.len(), VALUE_NAME_BYTES_MAX)
}

fn shown(field: &'static str, text: &str, max: usize) -> Result<(), BadMessage> {
    length(field, text.len(), max)?;
    require(!text.chars().any(char::is_control), field, Wrong::Control)
}

fn filled(field: &'static str, bytes: usize, max: usize) -> Result<(), BadMessage> {
    require(bytes > 0, field, Wrong::Empty)?;
    length(field, bytes, max)
}

fn length(field: &'static str, bytes: usize, max: usize) -> Result<(), BadMessage> {
    require(bytes <= max, field, Wrong::TooLong { bytes, max })
}

fn count(field: &'static str, count: usize, max: usize) -> Result<(), BadMessage> {
    require(count <= max, field, Wrong::TooMany { count, max })
}

fn require(holds: bool, field: &'static str, wrong: Wrong) -> Result<(), BadMessage> {
    if holds { Ok(()) } else { Err(BadMessage { field, wrong }) }
}
