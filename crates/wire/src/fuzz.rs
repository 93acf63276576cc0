//! What a fuzzer throws bytes at, and what has to hold then: nothing panics, and what is understood is spoken so that it is
//! understood the same. For the targets in `fuzz/`, and for the tests here, which replay what those found of interest.

#![allow(clippy::expect_used, reason = "what does not hold ends the fuzzer")]

use bytes::{Bytes, BytesMut};

use crate::codec::{FrameReader, decode_stored, decode_to_client, decode_to_hub, encode_frame, encode_stored};
use crate::id::ClientId;
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_BEFORE_LOGIN};
use crate::link::{Fingerprint, InviteCode, JoinLink};
use crate::unique_id::UniqueId;

/// The native decoder: a first byte that says whose words follow, then a frame's body, or for 0 and 1 any number of frames.
///
/// Whether anything was understood.
///
/// # Panics
/// When something does not hold.
pub fn native(data: &[u8]) -> bool {
    let Some((&whose, rest)) = data.split_first() else { return false };
    match whose {
        0 => frames(rest, FRAME_BYTES_MAX_BEFORE_LOGIN),
        1 => frames(rest, FRAME_BYTES_MAX),
        2 => to_hub(rest),
        3 => to_client(rest),
        _ => stored(rest),
    }
}

fn frames(data: &[u8], max: usize) -> bool {
    let mut buffer = BytesMut::from(data);
    let mut reader = FrameReader::new();
    let mut understood = false;
    while let Ok(Some(body)) = reader.next(&mut buffer, max) {
        assert!(!body.is_empty() && body.len() <= max, "a frame of {} bytes", body.len());
        understood |= to_hub(&body);
    }
    // What is announced costs no memory before it is sent.
    assert!(buffer.capacity() <= data.len() + (1 << 20), "{} bytes for {}", buffer.capacity(), data.len());
    understood
}

fn to_hub(body: &[u8]) -> bool {
    let Ok(message) = decode_to_hub(body) else { return false };
    let frame = encode_frame(&message).expect("what was understood can be said");
    let again = decode_to_hub(frame.get(4..).expect("a frame has a header"));
    assert_eq!(again, Ok(message));
    true
}

fn to_client(body: &[u8]) -> bool {
    let Ok(message) = decode_to_client(Bytes::copy_from_slice(body)) else { return false };
    let frame = encode_frame(&message).expect("what was understood can be said");
    assert_eq!(decode_to_client(frame.slice(4..)), Ok(message));
    true
}

fn stored(bytes: &[u8]) -> bool {
    let Ok(value) = decode_stored(bytes) else { return false };
    let again = encode_stored(&value).expect("what was understood can be kept");
    assert_eq!(decode_stored(&again), Ok(value));
    true
}

/// What people type or paste: a join link, an ID, a unique ID, an invite code, a key's fingerprint. Whether it is one.
///
/// # Panics
/// When one that was read is not the same once it is written and read again.
pub fn link(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut understood = false;
    if let Ok(link) = JoinLink::parse(text) {
        let again = JoinLink::parse(&link.reveal()).expect("a link that was written is one");
        assert_eq!((again.address(), again.fingerprint()), (link.address(), link.fingerprint()));
        assert_eq!(again.invite().map(InviteCode::reveal), link.invite().map(InviteCode::reveal));
        // It goes into a terminal, a log and a socket's address as it is.
        assert!(!link.host().chars().any(char::is_control), "{:?}", link.host());
        understood = true;
    }
    if let Ok(id) = ClientId::parse(text) {
        assert!((1..1 << 53).contains(&id.get()) && id.get().to_string() == text, "{text:?} is {id:?}");
        understood = true;
    }
    if let Ok(unique_id) = UniqueId::parse(text) {
        let again = UniqueId::parse(&unique_id.reveal()).expect("a unique ID that was written is one");
        assert!(again.id() == unique_id.id() && bool::from(again.hash().same(&unique_id.hash())));
        understood = true;
    }
    if let Some(code) = InviteCode::parse(text) {
        assert_eq!(InviteCode::parse(&code.reveal()).map(|again| again.reveal()), Some(code.reveal()));
        understood = true;
    }
    if let Some(fingerprint) = Fingerprint::parse(text) {
        assert_eq!(Fingerprint::parse(&fingerprint.full()), Some(fingerprint));
        understood = true;
    }
    understood
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::samples;
    use std::fs;
    use std::path::PathBuf;

    fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
        let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
        files.map(|file| file.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// How much of a target's corpus is understood; all of it holds.
    fn replayed(target: &str, check: impl Fn(&[u8]) -> bool) -> usize {
        let understood = |(path, data): &(PathBuf, Vec<u8>)| {
            println!("{}", path.display());
            check(data)
        };
        corpus(target).iter().filter(|file| understood(file)).count()
    }

    #[test]
    fn what_the_fuzzer_found_of_the_native_decoder_holds() {
        assert!(replayed("native", native) > 10, "hardly anything is a message");
    }

    #[test]
    fn what_the_fuzzer_found_of_links_and_ids_holds() {
        assert!(replayed("link", link) > 5, "hardly anything is a link or an id");
    }

    /// What a fuzzer begins with: `LOCKSTEP_WRITE_CORPUS=1 cargo test -p lockstep-wire seeds`.
    #[test]
    fn seeds_are_understood() {
        let mut seeds: Vec<(&str, String, Vec<u8>)> = Vec::new();
        for (name, message) in samples::to_hub() {
            let frame = encode_frame(&message).unwrap();
            seeds.push(("native", format!("hub-{name}"), [&[2], &frame[4..]].concat()));
            seeds.push(("native", format!("frame-{name}"), [&[1], &frame[..]].concat()));
        }
        for (name, message) in samples::to_client() {
            seeds.push(("native", format!("client-{name}"), [&[3], &encode_frame(&message).unwrap()[4..]].concat()));
        }
        let id = ClientId::new(17).unwrap();
        let code = InviteCode::from_random([7; 26]);
        let fingerprint = Fingerprint::of(b"a key");
        for host in ["hub.example", "192.0.2.1", "2001:db8::1"] {
            for invite in [None, Some(code.clone())] {
                let name = format!("link-{host}-{}", invite.is_some());
                let link = JoinLink::new(host, 7117, fingerprint, invite).unwrap();
                seeds.push(("link", name.replace(':', "_"), link.reveal().into_bytes()));
            }
        }
        seeds.push(("link", "id".into(), b"9007199254740991".to_vec()));
        seeds.push(("link", "unique-id".into(), UniqueId::from_random(id, [9; 26]).reveal().into_bytes()));
        seeds.push(("link", "invite".into(), code.reveal().into_bytes()));
        seeds.push(("link", "fingerprint".into(), fingerprint.full().into_bytes()));
        for (target, name, data) in &seeds {
            assert!(if *target == "link" { link(data) } else { native(data) }, "{target} {name}");
            if std::env::var_os("LOCKSTEP_WRITE_CORPUS").is_some() {
                let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/").to_owned() + target;
                fs::create_dir_all(&dir).unwrap();
                fs::write(format!("{dir}/{name}"), data).unwrap();
            }
        }
    }
}
