//! Whatever else comes in on the text port: it is told what is wrong, costs little, and harms nobody.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{PATIENCE, Proc, Rng, for_each_seed, lockstep_at, pick, scratch};

use super::active;
use super::typist::{Typist, text_hub};
use crate::login::hub_log;

#[test]
fn plain_text_leaves_this_machine_only_when_forced() {
    let dir = scratch();
    let hub = |args: &[&str]| {
        let mut command = lockstep_at(&*dir);
        command.args(["hub", "--listen", "127.0.0.1:0"]).args(args);
        command
    };
    let refused = hub(&["--text", "0.0.0.0:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("--text-insecure") && said.contains("127.0.0.1"), "{said}");
    Proc::start(&mut hub(&["--text", "0.0.0.0:0", "--text-insecure"])).wait_for_line("text ", PATIENCE);
    let off = Proc::start(&mut hub(&[]));
    off.wait_for_line("join ", PATIENCE);
    assert!(!off.output().iter().any(|line| line.starts_with("text")), "off unless asked for");
}

#[test]
fn who_speaks_something_else_is_told_so() {
    let (cluster, address) = text_hub(&[]);
    for (sent, told) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "not HTTP"),
        // What a page in a browser on this machine could send.
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n7\n\nput x evil\n", "not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "without TLS"),
        (&[b'7'; 5000], "at most"),
    ] {
        let mut typist = Typist::connect(&address);
        typist.write(sent);
        typist.expect("id?");
        let refused = typist.expect("refused");
        assert!(refused.contains(told), "{refused}");
        assert!(typist.rest().is_empty());
    }
    assert_eq!(active(&cluster), [0; 0]);
    assert_ne!(cluster.run(&["get", "x"]).status.code(), Some(0));
}

#[test]
fn telnet_is_declined_and_then_a_client_like_any_other() {
    let (_cluster, address) = text_hub(&[]);
    let mut typist = Typist::connect(&address);
    typist.expect("id?");
    typist.write(b"\xff\xfb\x187\xff\xfd\x01\r\n");
    let mut declined = vec![0xff, 0xfe, 0x18, 0xff, 0xfc, 0x01];
    declined.extend_from_slice(b"issued ");
    assert_eq!(typist.read_bytes(declined.len()), declined);
    typist.read_line();
    typist.write(b"\r\0put x 1\r\0get x\r\n");
    for word in ["welcome", "ok", "value", "ok"] {
        typist.expect(word);
    }
}

#[test]
fn a_line_is_looked_at_when_it_ends_however_slowly_it_is_typed_and_never_half() {
    let (cluster, address) = text_hub(&[]);
    let (mut typist, unique_id) = Typist::enrolled(&address, 1);
    typist.ask("put x 1");
    for byte in b"put x 22\n" {
        typist.write(&[*byte]);
        assert_ne!(cluster.run(&["get", "x"]).stdout, b"2");
    }
    assert!(typist.expect("ok").parse::<u64>().is_ok());
    typist.write(b"put x 3");
    typist.half_close();
    let last = typist.rest();
    assert_eq!(last.len(), 1);
    assert!(last[0].starts_with("bye closed the last line had no end"), "{last:?}");
    // Nor before the login, where half a unique ID could be taken for a mistyped one.
    let mut typist = Typist::connect(&address);
    typist.write(format!("1\n{}", &unique_id[..20]).as_bytes());
    typist.half_close();
    typist.expect("id?");
    typist.expect("unique_id?");
    assert!(typist.rest().is_empty());
    assert_eq!(cluster.run(&["get", "x"]).stdout, b"22");
    // Whole lines are done to the end, and what is followed comes once, before the connection closes.
    let mut typist = Typist::connect(&address);
    typist.write(format!("1\n{unique_id}\nput y 2\nfollow\n").as_bytes());
    typist.half_close();
    for word in ["id?", "unique_id?", "welcome", "ok", "ok all *"] {
        typist.expect(word);
    }
    assert_eq!(typist.values().0, ["x 22", "y 2"]);
    assert_eq!(typist.rest(), ["bye closed"]);
}

#[test]
fn a_line_that_is_too_long_is_told_and_the_next_one_is_heard() {
    let (cluster, address) = text_hub(&[]);
    let (mut typist, _) = Typist::enrolled(&address, 1);
    // The longest value there is, written in the longest way, and a byte more.
    let longest = "\\u0001".repeat(256 * 1024);
    assert!(typist.ask(&format!("put x \"{longest}\""))[0].starts_with("ok "));
    let got = typist.ask("get x");
    assert!(got[0].ends_with(&format!("x \"{longest}\"")));
    assert!(typist.ask(&format!("put x \"{longest}a\""))[0].starts_with("error limit "));
    assert!(typist.ask(&format!("put x {}", "a".repeat(4 << 20)))[0].starts_with("error limit a line has at most"));
    assert!(typist.ask(&format!("put {} 1", "n".repeat(257)))[0].starts_with("error limit "));
    assert!(typist.ask("put x short")[0].starts_with("ok "));
    assert_eq!(cluster.run(&["get", "x"]).stdout, b"short");
}

#[test]
fn garbage_is_answered_line_by_line_and_ends_nothing_but_itself() {
    let (mut cluster, address) = text_hub(&[]);
    let (mut witness, unique_id) = Typist::enrolled(&address, 1);
    for_each_seed(&[1, 2], |seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..pick(10, 300) {
            // Before the login it is a bad answer, three of which end it; after it each line is.
            let bytes = rng.bytes(3000);
            let mut typist = Typist::connect(&address);
            typist.write(&bytes);
            typist.half_close();
            typist.read_all();
            let mut typist = Typist::logged_in(&address, 1, &unique_id);
            witness.expect("bye taken_over");
            typist.write(&bytes);
            typist.write(b"\xff\xf0\nclients\n");
            typist.read_until("ok 1");
            witness = typist;
        }
    });
    assert!(cluster.hub().is_running());
    assert!(!hub_log(&cluster).contains("panicked"));
}

#[test]
fn hundreds_that_never_log_in_keep_nobody_out_and_cost_little() {
    // As many descriptors as the system lets this process and its hub have: the usual 1,024 are fewer than the crowd.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let (mut cluster, address) = text_hub(&[]);
    let before = cluster.hub().rss_bytes().unwrap();
    let strangers: Vec<Typist> = (0..300)
        .map(|n| {
            let mut stranger = Typist::connect(&address);
            stranger.expect("id?");
            if n % 2 == 0 {
                stranger.write(b"12");
            }
            stranger
        })
        .collect();
    let start = Instant::now();
    drop(Typist::enrolled(&address, 1));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let each = cluster.hub().rss_bytes().unwrap().saturating_sub(before) / 300;
    assert!(each < 32 << 10, "{each} bytes a stranger");
    drop(strangers);
    // More than there is room for: the one that waited longest makes it, and is told.
    let mut crowd: Vec<Typist> = (0..1030).map(|_| Typist::connect(&address)).collect();
    crowd.iter_mut().rev().take(3).for_each(|stranger| {
        stranger.expect("id?");
    });
    let told = crowd.swap_remove(0).rest();
    assert!(told.last().unwrap().starts_with("refused full "), "{told:?}");
    drop(Typist::enrolled(&address, 2));
}
