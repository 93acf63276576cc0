use super::*;
use crate::check::Wrong;
use crate::limits::*;
use crate::message::*;
use crate::secret::Secret;
use proptest::prelude::*;
use std::collections::BTreeMap;

mod golden;
pub(crate) mod samples;

/// The golden frames by name: hex with a comment a field. See golden/v1/README.md.
fn frames_of(file: &str) -> BTreeMap<String, Vec<u8>> {
    let mut frames: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut name = None;
    for line in file.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(next) = line.strip_prefix('[') {
            let next = next.trim_end_matches(']').to_owned();
            assert!(frames.insert(next.clone(), Vec::new()).is_none(), "{next} stands there twice");
            name = Some(next);
        } else if !line.is_empty() {
            let hex: String = line.split_whitespace().collect();
            let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
            frames.get_mut(name.as_ref().unwrap()).unwrap().extend(bytes);
        }
    }
    frames
}

fn body(frame: &[u8]) -> Bytes {
    let mut buf = BytesMut::from(frame);
    let body = FrameReader::new().next(&mut buf, FRAME_BYTES_MAX).unwrap().unwrap();
    assert!(buf.is_empty());
    body
}

#[test]
fn golden_frames_of_protocol_1_are_spoken_and_understood_byte_for_byte() {
    let frames = frames_of(include_str!("../../golden/v1/to_hub.txt"));
    let samples = samples::to_hub();
    assert_eq!(frames.len(), samples.len());
    for (name, message) in samples {
        assert_eq!(decode_to_hub(&body(&frames[name])).as_ref(), Ok(&message), "{name}");
        assert_eq!(encode_frame(&message).unwrap(), frames[name], "{name}");
    }
    let frames = frames_of(include_str!("../../golden/v1/to_client.txt"));
    let samples = samples::to_client();
    assert_eq!(frames.len(), samples.len());
    for (name, message) in samples {
        assert_eq!(decode_to_client(body(&frames[name])).as_ref(), Ok(&message), "{name}");
        assert_eq!(encode_frame(&message).unwrap(), frames[name], "{name}");
    }
    let frames = frames_of(include_str!("../../golden/v1/stored.txt"));
    assert_eq!(decode_stored(&frames["stored"]), Ok(samples::stored()));
    assert_eq!(encode_stored(&samples::stored()).unwrap(), frames["stored"]);
}

/// Begins the golden frames of a protocol version that was never released: `cargo test -p lockstep-wire -- --ignored`.
#[test]
#[ignore = "writes the golden files; only while their version is not released"]
fn write_golden_frames() {
    let directory =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v{}", crate::PROTOCOL_VERSION));
    let length =
        |bytes: usize| (u32::try_from(bytes).unwrap().to_le_bytes().to_vec(), format!("length of the body: {bytes}"));
    let title = |what: &str| format!("# Protocol {}, {what}. See README.md: never changed.\n", crate::PROTOCOL_VERSION);
    let mut text = title("client to hub");
    text.extend(samples::to_hub().iter().map(|(name, message)| golden::block(name, message, length)));
    std::fs::write(directory.join("to_hub.txt"), text).unwrap();
    let mut text = title("hub to client");
    text.extend(samples::to_client().iter().map(|(name, message)| golden::block(name, message, length)));
    std::fs::write(directory.join("to_client.txt"), text).unwrap();
    let format = |_: usize| (vec![STORED_FORMAT], "format".to_owned());
    let text = title("a value of the board `data` on disk") + &golden::block("stored", &samples::stored(), format);
    std::fs::write(directory.join("stored.txt"), text).unwrap();
}

#[test]
fn canary_a_changed_golden_byte_is_noticed() {
    let frames = frames_of(include_str!("../../golden/v1/to_hub.txt"));
    for (name, message) in samples::to_hub() {
        for at in 0..frames[name].len() {
            let mut changed = frames[name].clone();
            changed[at] ^= 1;
            assert_ne!(encode_frame(&message).unwrap(), changed, "{name} {at}");
        }
    }
}

#[test]
fn every_cut_and_every_longer_frame_is_refused() {
    for (name, message) in samples::to_client() {
        let whole = body(&encode_frame(&message).unwrap());
        for cut in 0..whole.len() {
            assert!(decode_to_client(whole.slice(..cut)).is_err(), "{name} cut at {cut}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(decode_to_client(longer.into()), Err(DecodeError::Trailing { bytes: 1 }), "{name}");
    }
}

#[test]
fn unknown_messages_are_refused() {
    for tag in [200_u8, 100, 50] {
        assert_eq!(decode_to_hub(&[tag]), Err(DecodeError::NotAMessage));
        assert_eq!(decode_to_client(Bytes::copy_from_slice(&[tag])), Err(DecodeError::NotAMessage));
    }
}

#[test]
fn a_length_is_looked_at_before_memory_is_spent() {
    for (max, announced, fits) in [
        (FRAME_BYTES_MAX_BEFORE_LOGIN, FRAME_BYTES_MAX_BEFORE_LOGIN, true),
        (FRAME_BYTES_MAX_BEFORE_LOGIN, FRAME_BYTES_MAX_BEFORE_LOGIN + 1, false),
        (FRAME_BYTES_MAX, FRAME_BYTES_MAX, true),
        (FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, false),
        (FRAME_BYTES_MAX, 1 << 30, false),
        (FRAME_BYTES_MAX, 0, false),
    ] {
        let mut buf = BytesMut::from(&u32::try_from(announced).unwrap().to_le_bytes()[..]);
        let answer = FrameReader::new().next(&mut buf, max);
        assert_eq!(answer, if fits { Ok(None) } else { answer.clone() });
        assert_eq!(answer.is_ok(), fits, "{announced}");
        assert!(buf.capacity() <= HEADER_BYTES + 2 * READ_AHEAD_BYTES, "{announced}: {}", buf.capacity());
    }
}

#[test]
fn large_contents_share_the_frames_memory_and_names_do_not() {
    let message = ToClient::Batch(Batch {
        group: 1,
        records: vec![Record {
            name: Bytes::from_static(b"name"),
            seq: 1,
            value: Some(vec![1; 100].into()),
            inline: Some(vec![2; INLINE_BYTES_MAX].into()),
        }],
        mark: Mark::Live { from: 0, to: 1, view: 1, current: None },
    });
    let frame = body(&encode_frame(&message).unwrap());
    let within = |bytes: &Bytes| frame.as_ptr_range().contains(&bytes.as_ptr());
    let decoded = decode_to_client(frame.clone()).unwrap();
    assert_eq!(decoded, message);
    let ToClient::Batch(batch) = &decoded else { panic!("{decoded:?}") };
    assert!(within(batch.records[0].inline.as_ref().unwrap()));
    assert!(!within(&batch.records[0].name) && !within(batch.records[0].value.as_ref().unwrap()));
}

/// The last that is allowed and the first that is not, of every limit that a peer's message can break.
#[test]
fn every_limit_allows_what_it_says_and_nothing_past_it() {
    let put = |name: usize, value: usize, content_type: usize| ToHub::Put {
        req: 1,
        name: vec![b'n'; name].into(),
        value: Some(Content { content_type: "t".repeat(content_type), bytes: vec![0; value].into() }),
    };
    let id = |id: usize, invite: usize, name: usize| ToHub::Id {
        id: "1".repeat(id),
        invite: Some(Secret::from("C".repeat(invite))),
        name: "b".repeat(name),
    };
    let ack = |problems: usize, name: usize, text: usize| {
        let mut ack = match samples::to_hub().into_iter().find(|(name, _)| *name == "ack") {
            Some((_, ToHub::Ack(ack))) => ack,
            _ => panic!("no sample"),
        };
        ack.first_problems = vec![(vec![b'n'; name].into(), "t".repeat(text)); problems];
        ToHub::Ack(ack)
    };
    let after = |end: usize, said: usize| {
        let ToHub::Ack(mut ack) = ack(1, 1, 1) else { panic!("an ack") };
        let after = ack.after.as_mut().unwrap();
        (after.end, after.said) = ("e".repeat(end), Some("s".repeat(said)));
        ToHub::Ack(ack)
    };
    let follow = |board: usize, pattern: usize| ToHub::Follow {
        fid: 1,
        board: "b".repeat(board),
        pattern: vec![b'p'; pattern].into(),
        cursor: None,
    };
    let want =
        |share: usize, contents: usize| ToHub::Want { share: "s".repeat(share), contents: vec![[0; 32]; contents] };
    let chunks = |count: usize| ToHub::WantChunks {
        share: "s".into(),
        content: [0; 32],
        chunks: (0..u32::try_from(count).unwrap()).collect(),
    };
    let wait = |clients: usize, target: usize| ToHub::Ask {
        req: 1,
        question: crate::answer::Question::Wait {
            target: Some("s".repeat(target)),
            clients: vec![1; clients],
            timeout_ms: 1,
        },
    };
    let hello =
        |software: usize| ToHub::Hello { versions: (1, 1), software: "s".repeat(software), purpose: Purpose::Login };
    for (good, bad) in [
        (put(VALUE_NAME_BYTES_MAX, 1, 1), put(VALUE_NAME_BYTES_MAX + 1, 1, 1)),
        (put(1, 1, 1), put(0, 1, 1)),
        (put(1, VALUE_BYTES_MAX, 1), put(1, VALUE_BYTES_MAX + 1, 1)),
        (put(1, 1, CONTENT_TYPE_BYTES_MAX), put(1, 1, CONTENT_TYPE_BYTES_MAX + 1)),
        (id(ID_TEXT_BYTES_MAX, 1, 1), id(ID_TEXT_BYTES_MAX + 1, 1, 1)),
        (id(1, INVITE_BYTES_MAX, 1), id(1, INVITE_BYTES_MAX + 1, 1)),
        (id(1, 1, NAME_BYTES_MAX), id(1, 1, NAME_BYTES_MAX + 1)),
        (ack(PROBLEMS_MAX, 1, 1), ack(PROBLEMS_MAX + 1, 1, 1)),
        (ack(1, ENTRY_NAME_BYTES_MAX, 1), ack(1, ENTRY_NAME_BYTES_MAX + 1, 1)),
        (ack(1, 1, PROBLEM_TEXT_BYTES_MAX), ack(1, 1, PROBLEM_TEXT_BYTES_MAX + 1)),
        (after(RAN_END_BYTES_MAX, 1), after(RAN_END_BYTES_MAX + 1, 1)),
        (after(1, RAN_SAID_BYTES_MAX), after(1, RAN_SAID_BYTES_MAX + 1)),
        (follow(BOARD_NAME_BYTES_MAX, 1), follow(BOARD_NAME_BYTES_MAX + 1, 1)),
        (follow(1, ENTRY_NAME_BYTES_MAX), follow(1, ENTRY_NAME_BYTES_MAX + 1)),
        (want(SHARE_NAME_BYTES_MAX, 1), want(SHARE_NAME_BYTES_MAX + 1, 1)),
        (want(1, WANTS_MAX), want(1, WANTS_MAX + 1)),
        (chunks(WANTED_CHUNKS_MAX), chunks(WANTED_CHUNKS_MAX + 1)),
        (wait(WAIT_CLIENTS_MAX, 1), wait(WAIT_CLIENTS_MAX + 1, 1)),
        (wait(1, VALUE_NAME_BYTES_MAX), wait(1, VALUE_NAME_BYTES_MAX + 1)),
        (hello(SOFTWARE_BYTES_MAX), hello(SOFTWARE_BYTES_MAX + 1)),
    ] {
        assert_limit(&good, &bad, |bytes| decode_to_hub(&bytes));
    }

    let batch = |entries: usize, name: usize, value: usize, inlines: usize, inline: usize| {
        let mut record =
            Record { name: vec![b'n'; name].into(), seq: 1, value: Some(vec![0; value].into()), inline: None };
        let mut records = vec![record.clone(); entries];
        record.inline = Some(vec![0; inline].into());
        records.extend(vec![record; inlines]);
        ToClient::Batch(Batch { group: 1, records, mark: Mark::Live { from: 0, to: 1, view: 1, current: None } })
    };
    let content = |bytes: usize| ToClient::Content { content: [0; 32], bytes: vec![0; bytes].into() };
    let chunk = |bytes: usize| ToClient::Chunk { content: [0; 32], index: u32::MAX, bytes: vec![0; bytes].into() };
    let recipe = |count: usize, bytes: usize| ToClient::Recipe {
        content: [0; 32],
        first: 0,
        total: u32::try_from(count).unwrap(),
        chunks: vec![([0; 32], u32::try_from(bytes).unwrap()); count],
    };
    let refused =
        |text: usize| ToClient::Refused(Refusal { code: Code::Limit, text: "t".repeat(text), retry_ms: None });
    let welcome = |shares: usize| {
        let info = ShareInfo { name: "s".into(), entries: 0, bytes: 0, complete: true };
        let token = crate::secret::Token([0; 32]);
        ToClient::Welcome(Welcome { id: 1, token, hub: "h".into(), shares: vec![info; shares], silence_max_ms: 1 })
    };
    for (good, bad) in [
        (batch(BATCH_ENTRIES_MAX, 1, 1, 0, 0), batch(BATCH_ENTRIES_MAX + 1, 1, 1, 0, 0)),
        (batch(1, ENTRY_NAME_BYTES_MAX, 1, 0, 0), batch(1, ENTRY_NAME_BYTES_MAX + 1, 1, 0, 0)),
        (batch(1, 1, STORED_BYTES_MAX, 0, 0), batch(1, 1, STORED_BYTES_MAX + 1, 0, 0)),
        (batch(0, 1, 1, INLINE_ENTRIES_MAX, 1), batch(0, 1, 1, INLINE_ENTRIES_MAX + 1, 1)),
        (batch(0, 1, 1, 1, INLINE_BYTES_MAX), batch(0, 1, 1, 1, INLINE_BYTES_MAX + 1)),
        (content(CONTENT_WHOLE_BYTES_MAX), content(CONTENT_WHOLE_BYTES_MAX + 1)),
        (chunk(CHUNK_BYTES_MAX), chunk(CHUNK_BYTES_MAX + 1)),
        (recipe(CHUNKS_MAX, 1), recipe(CHUNKS_MAX + 1, 1)),
        (recipe(1, CHUNK_BYTES_MAX), recipe(1, CHUNK_BYTES_MAX + 1)),
        (refused(REFUSAL_TEXT_BYTES_MAX), refused(REFUSAL_TEXT_BYTES_MAX + 1)),
        (welcome(SHARES_MAX), welcome(SHARES_MAX + 1)),
    ] {
        assert_limit(&good, &bad, decode_to_client);
    }
}

/// Both sides refuse: the sender before it sends, and the receiver though the sender did not care.
fn assert_limit<M: Message + PartialEq + std::fmt::Debug>(
    good: &M,
    bad: &M,
    decode: impl Fn(Bytes) -> Result<M, DecodeError>,
) {
    let sent = encode_frame(good).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(decode(body(&sent)).as_ref(), Ok(good));
    let mut out = BytesMut::from(&b"before"[..]);
    let refused = encode(bad, &mut out).unwrap_err();
    assert_eq!(out, &b"before"[..], "{refused}");
    let bytes = postcard::to_allocvec(bad).unwrap();
    assert!(decode(bytes.into()).is_err(), "{refused}");
}

#[test]
fn texts_that_people_see_have_no_control_characters() {
    let message = ToHub::Id { id: "7".into(), invite: None, name: "box\u{1b}[2J".into() };
    let bytes = postcard::to_allocvec(&message).unwrap();
    let refused = decode_to_hub(&bytes).unwrap_err();
    assert!(matches!(&refused, DecodeError::Bad(bad) if bad.wrong == Wrong::Control), "{refused}");
}

#[test]
fn a_stored_value_of_another_format_says_so() {
    let mut bytes = encode_stored(&samples::stored()).unwrap().to_vec();
    bytes[0] = 2;
    assert_eq!(decode_stored(&bytes), Err(DecodeError::Format { format: 2 }));
    assert_eq!(decode_stored(&[]), Err(DecodeError::NotAMessage));
    let full = |bytes: usize| Stored {
        content: Content { content_type: "t".repeat(CONTENT_TYPE_BYTES_MAX), bytes: vec![0; bytes].into() },
        by: u64::MAX,
        at_ms: i64::MIN,
    };
    assert_eq!(decode_stored(&encode_stored(&full(VALUE_BYTES_MAX)).unwrap()), Ok(full(VALUE_BYTES_MAX)));
    assert!(encode_stored(&full(VALUE_BYTES_MAX + 1)).is_err());
}

#[test]
fn no_secret_shows_in_any_message() {
    let shown = format!("{:?} {:?}", samples::to_hub(), samples::to_client());
    for secret in ["CODE", "ls-7", "lsj1", "205, 205"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

proptest! {
    #[test]
    fn garbage_is_answered_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _answer = decode_to_hub(&bytes);
        let _answer = decode_to_client(Bytes::from(bytes.clone()));
        let _answer = decode_stored(&bytes);
        let mut buf = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = FrameReader::new().next(&mut buf, FRAME_BYTES_MAX) {}
    }

    #[test]
    fn nearly_right_messages_are_answered_and_what_is_understood_is_spoken_the_same(
        which in 0_usize..60, at: prop::sample::Index, to: u8, more in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let samples = samples::to_client();
        let mut bytes = body(&encode_frame(&samples[which % samples.len()].1).unwrap()).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.splice(at..at, more);
        if let Ok(message) = decode_to_client(Bytes::from(bytes)) {
            let again = decode_to_client(body(&encode_frame(&message).unwrap()));
            prop_assert_eq!(again, Ok(message));
        }
    }

    #[test]
    fn frames_arrive_whole_however_they_are_cut(cuts in proptest::collection::vec(1_usize..40, 0..200)) {
        let mut sent = BytesMut::new();
        for (_, message) in samples::to_hub() {
            encode(&message, &mut sent).unwrap();
        }
        let (mut buf, mut reader, mut got) = (BytesMut::new(), FrameReader::new(), Vec::new());
        for cut in cuts.into_iter().chain([usize::MAX]) {
            buf.extend_from_slice(&sent.split_to(cut.min(sent.len())));
            while let Some(body) = reader.next(&mut buf, FRAME_BYTES_MAX).unwrap() {
                got.push(decode_to_hub(&body).unwrap());
            }
        }
        let expected: Vec<ToHub> = samples::to_hub().into_iter().map(|(_, message)| message).collect();
        prop_assert_eq!(got, expected);
    }
}
