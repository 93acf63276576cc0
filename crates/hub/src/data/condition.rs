//! Changes that depend on what is there, and the tag by which one says what was there.

use board::Board;

/// What a name must hold for a change of it to be made: judged by the one writer, against all that was put before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Anything, or nothing.
    Any,
    /// Nothing.
    Nothing,
    /// A value.
    Something,
    /// A value with one of these tags.
    OneOf(Vec<String>),
}

impl Condition {
    pub(super) fn holds(&self, board: &Board, name: &[u8]) -> bool {
        let held = || board.get(name).and_then(|record| Some((record.seq, record.value?)));
        match self {
            Condition::Any => true,
            Condition::Nothing => held().is_none(),
            Condition::Something => held().is_some(),
            Condition::OneOf(tags) => held().is_some_and(|(seq, stored)| {
                let tag = tag(board.version().epoch, seq, &stored);
                tags.contains(&tag)
            }),
        }
    }
}

/// A value's version as an opaque text: another for each put, the same for as long as the value stays, also when the hub
/// was started anew or put back to an older copy of its data.
pub(crate) fn tag(epoch: u128, seq: u64, stored: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("lockstep value tag v1");
    hasher.update(&epoch.to_le_bytes()).update(&seq.to_le_bytes()).update(stored);
    format!("{seq}-{}", &hasher.finalize().to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::data::{Data, PutError};
    use board::{MemoryStore, OpenOptions, Writer};
    use bytes::Bytes;
    use std::sync::Arc;
    use wire::message::Content;

    fn content(text: &str) -> Option<Content> {
        Some(Content { content_type: "text/plain".into(), bytes: Bytes::copy_from_slice(text.as_bytes()) })
    }

    /// Many who each add one to a counter, by what they saw: each either did, or is told that it was changed meanwhile.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_who_change_what_they_saw_exactly_one_does_at_a_time() {
        let options = OpenOptions { durable: false, boot_id: String::new(), entropy: Box::new(|| 7) };
        let (data, thread) = Data::start(Writer::open(Box::new(MemoryStore), options).unwrap(), Arc::default());
        let data = Arc::new(data);
        let (name, all) = (Bytes::from_static(b"n"), Access::everything());
        data.put_if(name.clone(), content("0"), &all, Condition::Nothing).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for _ in 1..=8 {
            let (data, name, all) = (Arc::clone(&data), name.clone(), all.clone());
            writers.spawn(async move {
                let mut done = 0;
                while done < 20 {
                    let (tag, stored) = data.tagged(&name, &all).unwrap().unwrap();
                    let number: u64 = std::str::from_utf8(&stored.content.bytes).unwrap().parse().unwrap();
                    let next = content(&(number + 1).to_string());
                    match data.put_if(name.clone(), next, &all, Condition::OneOf(vec![tag])).await {
                        Ok(put) => {
                            assert!(!put.created);
                            done += 1;
                        }
                        Err(error) => assert!(matches!(error, PutError::Unmet), "{error}"),
                    }
                }
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        assert_eq!(data.get(&name, &all).unwrap().unwrap().1.content.bytes, "160");
        assert!(matches!(data.put_if(name.clone(), None, &all, Condition::Nothing).await, Err(PutError::Unmet)));
        data.put_if(name.clone(), None, &all, Condition::Something).await.unwrap();
        assert!(matches!(data.put_if(name, None, &all, Condition::Something).await, Err(PutError::Unmet)));
        data.stop();
        thread.join().unwrap();
    }
}
