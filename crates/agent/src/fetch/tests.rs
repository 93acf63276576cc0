//! What fetching promises, against a hub that serves honestly, wrongly or not at all.

use crate::testing::{Reply, Scene, noise, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tree::ContentId;
use wire::message::{ToClient, ToHub};

/// Large enough to come in chunks, and in many.
const LARGE_BYTES: u32 = 600_000;

fn large(seed: u64) -> Vec<u8> {
    noise(seed, LARGE_BYTES as usize)
}

fn change(scene: &mut Scene, content: &[u8]) {
    let change = scene.put_file("a", content);
    scene.live(vec![change], &[]);
}

fn scene() -> Scene {
    Scene::in_sync(&[("a", b"one")])
}

#[test]
fn m2_1_a_large_file_comes_in_chunks_by_a_recipe_of_several_frames() {
    let mut scene = scene();
    change(&mut scene, &large(1));
    let ack = scene.wait_in_sync();
    assert!(ack.content_bytes >= u64::from(LARGE_BYTES), "{ack:?}");
}

#[test]
fn m2_2_of_a_large_file_that_changed_only_what_changed_travels() {
    let mut scene = scene();
    let mut content = large(1);
    change(&mut scene, &content);
    let before = scene.wait_in_sync().content_bytes;
    let asked = scene.server.chunks_asked();
    content[LARGE_BYTES as usize / 2] ^= 1;
    change(&mut scene, &content);
    let after = scene.wait_in_sync().content_bytes;
    assert!(after - before < u64::from(LARGE_BYTES) / 10, "{} bytes travelled", after - before);
    assert!(scene.server.chunks_asked() - asked <= 3);
}

#[test]
fn chunks_may_come_in_any_order_and_more_than_once() {
    let mut scene = scene();
    scene.server.script(|message, server| {
        let ToHub::WantChunks { .. } = message else { return None };
        let mut replies = server.answer(message);
        replies.reverse();
        let again: Vec<Reply> = replies.iter().flat_map(|reply| [reply.clone(), reply.clone()]).collect();
        Some(again)
    });
    change(&mut scene, &large(2));
    scene.wait_in_sync();
}

#[test]
fn repeated_chunks_travel_once() {
    let mut scene = scene();
    change(&mut scene, &vec![0; 1 << 20]);
    let ack = scene.wait_in_sync();
    assert!(ack.content_bytes < 200_000, "{ack:?}");
}

/// A hub that answers wrongly the first time: what it sent gets no name, it is told, and the retry gets it right.
fn refused_and_asked_again(
    content: &[u8],
    told: &str,
    mut wrong: impl FnMut(&ToHub, Vec<Reply>) -> Option<Vec<Reply>> + Send + 'static,
) {
    let mut scene = scene();
    let mut left = 1;
    scene.server.script(move |message, server| {
        if left == 0 {
            return None;
        }
        let replies = wrong(message, server.answer(message));
        left -= usize::from(replies.is_some());
        replies
    });
    change(&mut scene, content);
    // Told for good, while acknowledgements tell the newest alone.
    until("it is told", || scene.problems().iter().any(|text| text.contains(told)));
    let now = std::fs::read(scene.copy.join("a")).unwrap();
    assert!(now == b"one" || now == content, "what does not match got the name");
    scene.wait_in_sync();
}

#[test]
fn a_content_of_another_hash_gets_no_name() {
    refused_and_asked_again(b"new", "hash and size", |message, _| {
        let ToHub::Want { contents, .. } = message else { return None };
        let content = contents[0];
        Some(vec![Reply::Say(ToClient::Content { content, bytes: bytes::Bytes::from_static(b"LIE") })])
    });
}

#[test]
fn a_content_of_another_size_is_refused_before_it_is_hashed_or_kept() {
    refused_and_asked_again(b"new", "hash and size", |message, _| {
        let ToHub::Want { contents, .. } = message else { return None };
        let (content, bytes) = (contents[0], vec![0; wire::limits::CONTENT_WHOLE_BYTES_MAX].into());
        Some(vec![Reply::Say(ToClient::Content { content, bytes })])
    });
}

#[test]
fn a_chunk_of_another_hash_gets_into_no_file() {
    refused_and_asked_again(&large(3), "a chunk came that is not", |message, replies| {
        let ToHub::WantChunks { .. } = message else { return None };
        let lie = |reply| match reply {
            Reply::Say(ToClient::Chunk { content, index, bytes }) => {
                Reply::Say(ToClient::Chunk { content, index, bytes: vec![0; bytes.len()].into() })
            }
            other => other,
        };
        Some(replies.into_iter().map(lie).collect())
    });
}

#[test]
fn a_chunk_of_another_length_is_refused_before_it_waits_for_the_disk() {
    refused_and_asked_again(&large(4), "has not the length", |message, replies| {
        let ToHub::WantChunks { .. } = message else { return None };
        let lie = |reply| match reply {
            Reply::Say(ToClient::Chunk { content, index, .. }) => {
                Reply::Say(ToClient::Chunk { content, index, bytes: vec![0; wire::limits::CHUNK_BYTES_MAX].into() })
            }
            other => other,
        };
        Some(replies.into_iter().map(lie).collect())
    });
}

#[test]
fn a_recipe_that_makes_another_whole_gets_no_name() {
    // Each chunk is what its hash says, and the sizes add up; the whole is not what was asked for.
    let (wanted, lie) = (large(5), large(6));
    let mut scene = scene();
    scene.server.script(move |message, _| match message {
        ToHub::Want { contents, .. } => {
            // Six equal parts.
            let chunks: Vec<_> = lie.chunks(100_000).map(|part| (ContentId::of(part).0, 100_000)).collect();
            let total = LARGE_BYTES / 100_000;
            Some(vec![Reply::Say(ToClient::Recipe { content: contents[0], first: 0, total, chunks })])
        }
        ToHub::WantChunks { content, chunks, .. } => {
            let parts: Vec<&[u8]> = lie.chunks(100_000).collect();
            let chunk = |index: &u32| {
                let bytes = parts[*index as usize].to_vec().into();
                Reply::Say(ToClient::Chunk { content: *content, index: *index, bytes })
            };
            Some(chunks.iter().map(chunk).collect())
        }
        _ => None,
    });
    change(&mut scene, &wanted);
    let ack = scene.wait_ack("it is told", |ack| ack.problems == 1);
    assert!(ack.first_problems[0].1.contains("the whole is not"), "{ack:?}");
    assert_eq!(scene.read("a"), "one");
    scene.server.honest();
    scene.wait_in_sync();
}

#[test]
fn a_recipe_whose_sizes_lie_is_refused_before_memory_is_spent() {
    for (first, total, len) in [(1, 2, 10), (0, 1, 10), (0, 1, LARGE_BYTES + 1), (0, u32::MAX, 1)] {
        refused_and_asked_again(&large(7), "list of chunks", move |message, _| {
            let ToHub::Want { contents, .. } = message else { return None };
            let chunks = vec![([1; 32], len)];
            Some(vec![Reply::Say(ToClient::Recipe { content: contents[0], first, total, chunks })])
        });
    }
}

#[test]
fn what_is_gone_is_asked_for_again_until_a_newer_entry_comes() {
    let mut scene = scene();
    let gone = scene.put("a", crate::testing::file(b"gone"));
    scene.live(vec![gone], &[]);
    until("it is asked for again", || scene.server.wants_of(b"gone") >= 3);
    assert_eq!(scene.read("a"), "one");
    change(&mut scene, b"newer");
    scene.wait_in_sync();
    let asked = scene.server.wants_of(b"gone");
    assert!(asked < 10, "{asked} times in a tight loop");
}

#[test]
fn a_connection_that_is_cut_loses_nothing_that_came() {
    let mut scene = scene();
    let chunks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&chunks);
    // The first connection is cut in the middle of the chunks.
    scene.server.script(move |message, server| {
        let ToHub::WantChunks { .. } = message else { return None };
        let replies = server.answer(message);
        if server.connections() > 1 || replies.len() < 4 {
            return None;
        }
        let half: Vec<Reply> = replies.into_iter().take(20).collect();
        counted.store(half.len(), Ordering::Relaxed);
        Some(half.into_iter().chain([Reply::Cut]).collect())
    });
    let content = large(8);
    change(&mut scene, &content);
    scene.wait_in_sync();
    let all = crate::testing::recipe(&content).len();
    let first = chunks.load(Ordering::Relaxed);
    assert!(first == 20 && scene.server.connections() == 2);
    assert!(scene.server.chunks_asked() <= 2 * all - first, "chunks that had come were asked for again");
}

#[test]
fn small_contents_asked_for_on_a_cut_connection_are_asked_for_again() {
    let mut scene = scene();
    scene.server.script(|_, server| (server.connections() == 1).then(|| vec![Reply::Cut]));
    // The first connection was opened for the walk and is the one to be cut.
    change(&mut scene, b"new");
    scene.wait_in_sync();
    assert!(scene.server.connections() >= 2);
}

#[test]
fn what_nobody_asked_for_costs_nothing_and_does_no_harm() {
    let mut scene = scene();
    scene.server.script(|message, server| {
        let strange = vec![0; wire::limits::CONTENT_WHOLE_BYTES_MAX];
        let content = ContentId::of(&strange).0;
        let mut replies = vec![
            Reply::Say(ToClient::Content { content, bytes: strange.into() }),
            Reply::Say(ToClient::Chunk { content, index: 9, bytes: vec![1].into() }),
            Reply::Say(ToClient::Recipe { content, first: 0, total: 1, chunks: vec![([1; 32], 1)] }),
            Reply::Say(ToClient::Gone { content }),
        ];
        replies.extend(server.answer(message));
        Some(replies)
    });
    change(&mut scene, &large(9));
    scene.wait_in_sync();
}

#[test]
fn a_giant_frame_or_garbage_ends_the_connection_and_nothing_else() {
    for garbage in [(1_u32 << 30).to_le_bytes().to_vec(), vec![0, 0, 0, 0], vec![3, 0, 0, 0, 0xff, 0xff, 0xff]] {
        let mut scene = scene();
        let raw = garbage.clone();
        scene.server.script(move |_, server| (server.connections() == 1).then(|| vec![Reply::Raw(raw.clone())]));
        change(&mut scene, b"new");
        scene.wait_in_sync();
        assert!(scene.server.connections() >= 2, "{garbage:?}");
    }
}
