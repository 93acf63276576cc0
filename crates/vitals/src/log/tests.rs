//! What [`CappedLog`] promises, with a fuse in the place of a full disk.

use std::{fs, io::Write, os::unix::fs::symlink};

use proptest::prelude::*;
use rustix::fs::{FileType, Mode};

use super::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    (dir, path)
}

fn small(segment_bytes_max: u64) -> LogOptions {
    LogOptions { segment_bytes_max, ..LogOptions::default() }
}

fn with_header(segment_bytes_max: u64) -> LogOptions {
    LogOptions { header: Some("a,b".into()), continues: |line| line == b"a,b", ..small(segment_bytes_max) }
}

/// The parts that are there, oldest first.
fn parts(log: &Path) -> Vec<String> {
    (0..10).rev().filter_map(|number| fs::read_to_string(part(log, number)).ok()).collect()
}

#[test]
fn parts_never_pass_the_cap_and_the_oldest_goes_first() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open_with(&path, small(20)).unwrap();
    for number in 100..150 {
        assert_eq!(log.append_line(format!("line {number}").as_bytes()).unwrap(), Appended::Written);
        assert!(parts(&path).iter().all(|part| part.len() <= 20));
        assert!(parts(&path).len() <= 4);
    }
    assert_eq!(parts(&path).concat(), (142..150).map(|number| format!("line {number}\n")).collect::<String>());
}

#[test]
fn a_private_log_is_its_owners_alone_with_all_its_parts_also_those_of_before() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, path) = scratch();
    let mode = |number| fs::metadata(part(&path, number)).unwrap().permissions().mode() & 0o777;
    let open_to = |number| fs::set_permissions(part(&path, number), fs::Permissions::from_mode(0o644)).unwrap();
    let mut log = CappedLog::open_with(&path, small(10)).unwrap();
    ["first", "second", "third"]
        .iter()
        .for_each(|line| assert_eq!(log.append_line(line.as_bytes()).unwrap(), Appended::Written));
    drop(log);
    (0..3).for_each(open_to);
    let mut log = CappedLog::open_with(&path, LogOptions { private: true, ..small(10) }).unwrap();
    assert_eq!([0, 1, 2].map(mode), [0o600; 3]);
    log.append_line(b"fourth").unwrap();
    assert_eq!([0, 1, 2, 3].map(mode), [0o600; 4]);
    // Moved away, and opened anew.
    fs::remove_file(&path).unwrap();
    log.append_line(b"fifth").unwrap();
    assert_eq!(mode(0), 0o600);
}

#[test]
fn another_header_begins_a_new_part_and_only_then() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open_with(&path, LogOptions { continues: |_| true, ..with_header(1000) }).unwrap();
    log.append_line(b"1,2").unwrap();
    log.set_header(Some("a,b".into()));
    log.append_line(b"3,4").unwrap();
    log.set_header(Some("a,b,c".into()));
    log.append_line(b"5,6,7").unwrap();
    log.append_line(b"8,9,0").unwrap();
    assert_eq!(parts(&path), ["a,b\n1,2\n3,4\n", "a,b,c\n5,6,7\n8,9,0\n"]);
    drop(log);
    CappedLog::open_with(&path, LogOptions { continues: |_| true, ..with_header(1000) }).unwrap();
    assert_eq!(parts(&path)[2], "", "a file of other columns is not continued");
}

fn at(wall_s: i64, monotonic_s: u64) -> Instants {
    let ns = monotonic_s * 1_000_000_000;
    Instants { wall_ns: wall_s * 1_000_000_000, monotonic_ns: ns, boottime_ns: ns }
}

#[test]
fn a_part_gets_no_older_than_allowed_and_a_clock_that_is_set_changes_nothing() {
    let (_dir, path) = scratch();
    let options = || LogOptions { age_max: Some(Duration::from_secs(60)), ..small(1000) };
    let mut log = CappedLog::open_with(&path, options()).unwrap();
    let now = Instants::now().wall_ns / 1_000_000_000;
    // The wall clock is set years ahead and back again; only the other one counts.
    for (line, wall_s, monotonic_s) in
        [("a", now, 1000), ("b", now + 100_000_000, 1030), ("c", 0, 1059), ("d", now, 1060), ("e", now, 1119)]
    {
        log.append_line_at(line.as_bytes(), &at(wall_s, monotonic_s)).unwrap();
    }
    assert_eq!(parts(&path), ["a\nb\nc\n", "d\ne\n"]);
    drop(log);
    // Begun before the program was: how old it is tells the wall clock.
    let mut log = CappedLog::open_with(&path, options()).unwrap();
    log.append_line_at(b"f", &at(now + 30, 5)).unwrap();
    log.append_line_at(b"g", &at(now + 30, 40)).unwrap();
    assert_eq!(parts(&path), ["a\nb\nc\n", "d\ne\nf\n", "g\n"]);
}

#[test]
fn looking_less_often_keeps_the_cap_and_finds_a_moved_log_in_time() {
    let (dir, path) = scratch();
    let options = LogOptions { look_every: Duration::from_secs(1), ..small(20) };
    let mut log = CappedLog::open_with(&path, options).unwrap();
    let mut now = at(0, 10);
    for number in 100..150 {
        now.monotonic_ns += 10_000_000;
        log.append_line_at(format!("line {number}").as_bytes(), &now).unwrap();
        assert!(parts(&path).iter().all(|part| part.len() <= 20));
    }
    assert_eq!(parts(&path).concat(), (142..150).map(|number| format!("line {number}\n")).collect::<String>());
    fs::rename(&path, dir.path().join("moved")).unwrap();
    now.monotonic_ns += 1_000_000_000;
    log.append_line_at(b"new", &now).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    // Asked to, at once.
    fs::rename(&path, dir.path().join("moved again")).unwrap();
    log.reopen().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    log.append_line_at(b"newer", &now).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "newer\n");
}

#[test]
fn a_line_longer_than_a_part_is_refused_and_the_cap_holds() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open_with(&path, LogOptions { segments_max: 1, ..with_header(10) }).unwrap();
    assert!(matches!(log.append_line(b"123456").unwrap_err(), LogError::LineTooLong { bytes: 11, .. }));
    assert_eq!(log.append_line(b"12345").unwrap(), Appended::Resumed { lines_lost: 1 });
    assert_eq!(log.append_line(b"67890").unwrap(), Appended::Written, "the only part is begun anew");
    assert_eq!(parts(&path), ["a,b\n67890\n"]);
}

#[test]
fn a_line_that_just_fits_stays_and_one_byte_more_begins_a_new_part() {
    for (second, parts_expected) in [("123456789", 1), ("1234567890", 2)] {
        let (_dir, path) = scratch();
        let mut log = CappedLog::open_with(&path, small(20)).unwrap();
        log.append_line(b"123456789").unwrap();
        log.append_line(second.as_bytes()).unwrap();
        assert_eq!(parts(&path).len(), parts_expected);
    }
}

#[test]
fn a_newline_inside_cannot_forge_a_line_and_a_long_line_is_cut() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open(&path).unwrap();
    log.append_line(b"ok\nforged\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"ok\\nforged\n");
    for extra in [0, 1, 100_000] {
        fs::write(&path, "").unwrap();
        log.append_line(&vec![b'x'; LINE_BYTES_MAX + extra]).unwrap();
        let written = fs::read(&path).unwrap();
        assert_eq!(written.len(), LINE_BYTES_MAX + 1);
        assert_eq!(written.ends_with(b"x [cut]\n"), extra > 0);
    }
    fs::write(&path, "").unwrap();
    log.append_line(&vec![b'\n'; LINE_BYTES_MAX]).unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), LINE_BYTES_MAX + 1);
}

#[test]
fn every_part_begins_with_the_header() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open_with(&path, with_header(16)).unwrap();
    for _ in 0..20 {
        log.append_line(b"1,2").unwrap();
    }
    assert_eq!(
        parts(&path),
        vec!["a,b\n1,2\n1,2\n1,2\n"; 3].into_iter().chain(["a,b\n1,2\n1,2\n"]).collect::<Vec<_>>()
    );
    drop(log);
    let mut log = CappedLog::open_with(&path, with_header(16)).unwrap();
    log.append_line(b"3,4").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a,b\n1,2\n1,2\n3,4\n", "not twice");
}

#[test]
fn a_file_of_another_format_is_kept_as_an_older_part() {
    let (_dir, path) = scratch();
    fs::write(&path, "other\n1\n").unwrap();
    let mut log = CappedLog::open_with(&path, with_header(100)).unwrap();
    log.append_line(b"1,2").unwrap();
    assert_eq!(parts(&path), ["other\n1\n", "a,b\n1,2\n"]);
}

#[test]
fn an_unfinished_last_line_is_removed_at_the_start() {
    for (before, after, mended) in [
        ("one\ntwo\n", "one\ntwo\n", 0),
        ("one\ntw", "one\n", 2),
        ("on", "", 2),
        ("one\n\0\0\0\0", "one\n", 4),
        ("", "", 0),
    ] {
        let (_dir, path) = scratch();
        fs::write(&path, before).unwrap();
        let mut log = CappedLog::open(&path).unwrap();
        assert_eq!(log.mended_bytes(), mended, "{before:?}");
        log.append_line(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}new\n"), "{before:?}");
    }
}

#[test]
fn cut_at_any_byte_and_with_any_bit_flipped_every_untouched_line_stays() {
    const LINES: [&str; 4] = ["a,b\n", "1,2\n", "33,44\n", "5,6\n"];
    let whole = LINES.concat().into_bytes();
    let goes_on = |damaged: &[u8], untouched: &[&str], what: &str| {
        let (_dir, path) = scratch();
        fs::write(&path, damaged).unwrap();
        let mut log = CappedLog::open_with(&path, with_header(1000)).unwrap();
        log.append_line(b"7,8").unwrap();
        let kept: Vec<u8> = (0..3).rev().filter_map(|number| fs::read(part(&path, number)).ok()).flatten().collect();
        let found: Vec<&[u8]> = kept.split_inclusive(|byte| *byte == b'\n').collect();
        assert!(untouched.iter().all(|line| found.contains(&line.as_bytes())), "{what}: {}", kept.escape_ascii());
        assert_eq!(found.last(), Some(&&b"7,8\n"[..]), "{what}: {}", kept.escape_ascii());
    };
    let ends: Vec<usize> = (1..=LINES.len()).map(|count| LINES[..count].concat().len()).collect();
    for cut in 0..whole.len() {
        let untouched = ends.iter().take_while(|end| **end <= cut).count();
        // Of a header alone nothing needs to be kept: it is written again.
        goes_on(&whole[..cut], &LINES[1.min(untouched)..untouched], &format!("cut at {cut}"));
    }
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let hit = ends.iter().position(|end| bit / 8 < *end).unwrap();
        // A newline that is none any more takes the line behind it along.
        let spoiled = if damaged[ends[hit] - 1] == b'\n' { hit..hit + 1 } else { hit..hit + 2 };
        let untouched: Vec<&str> =
            (0..LINES.len()).filter(|number| !spoiled.contains(number)).map(|number| LINES[number]).collect();
        goes_on(&damaged, &untouched, &format!("bit {bit}"));
    }
}

#[test]
fn a_last_line_too_long_to_be_ours_is_ended_not_removed() {
    let (_dir, path) = scratch();
    let foreign = "x".repeat(LINE_BYTES_MAX + 3);
    fs::write(&path, &foreign).unwrap();
    let mut log = CappedLog::open(&path).unwrap();
    log.append_line(b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{foreign}\nnew\n"));
}

#[test]
fn the_line_another_process_is_writing_is_not_taken_for_a_torn_one() {
    let (_dir, path) = scratch();
    let living = CappedLog::open(&path).unwrap();
    fs::write(&path, "half").unwrap();
    assert_eq!(CappedLog::open(&path).unwrap().mended_bytes(), 0);
    drop(living);
    assert_eq!(CappedLog::open(&path).unwrap().mended_bytes(), 4);
}

#[test]
fn a_full_disk_is_said_once_loses_whole_lines_and_ends() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open(&path).unwrap();
    log.append_line(b"before").unwrap();
    log.room_bytes = Some(3);
    let error = log.append_line(b"lost 1").unwrap_err();
    assert!(error.to_string().contains("x.log"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\n", "no half line stays");
    for _ in 0..5 {
        assert_eq!(log.append_line(b"lost").unwrap(), Appended::StillLost);
    }
    log.room_bytes = None;
    assert_eq!(log.append_line(b"after").unwrap(), Appended::Resumed { lines_lost: 6 });
    assert_eq!(log.append_line(b"more").unwrap(), Appended::Written);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\nmore\n");
    log.room_bytes = Some(0);
    assert!(log.append_line(b"lost").is_err(), "the next time is said again");
}

#[test]
fn a_full_disk_at_the_header_does_not_leave_a_part_without_one() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open_with(&path, with_header(100)).unwrap();
    log.room_bytes = Some(5);
    assert!(log.append_line(b"1,2").is_err());
    log.room_bytes = None;
    log.append_line(b"3,4").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a,b\n3,4\n");
}

#[test]
fn a_log_moved_or_removed_by_somebody_else_begins_anew() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open(&path).unwrap();
    log.append_line(b"one").unwrap();
    fs::rename(&path, part(&path, 7)).unwrap();
    log.append_line(b"two").unwrap();
    fs::remove_file(&path).unwrap();
    log.append_line(b"three").unwrap();
    assert_eq!(parts(&path), ["one\n", "three\n"]);
}

#[test]
fn two_writers_share_a_log_and_no_line_is_lost_or_out_of_order() {
    let (_dir, path) = scratch();
    let threads: Vec<_> = (0..2)
        .map(|writer| {
            let mut log = CappedLog::open_with(&path, small(10_000)).unwrap();
            std::thread::spawn(move || {
                for number in 0..1500 {
                    assert_eq!(log.append_line(format!("{writer} {number:05}").as_bytes()).unwrap(), Appended::Written);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let parts = parts(&path);
    assert!(parts.len() > 1, "parts were moved");
    let all = parts.concat();
    for writer in 0..2 {
        let numbers = all.lines().filter_map(|line| line.strip_prefix(&format!("{writer} ")));
        assert!(numbers.map(|number| number.parse::<u32>().unwrap()).eq(0..1500), "writer {writer}");
    }
}

#[test]
fn the_log_is_reached_through_our_own_link_but_not_through_anothers() {
    let (dir, path) = scratch();
    let target = dir.path().join("real").join("target.log");
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real/target.log", &path).unwrap();
    let mut log = CappedLog::open(&path).unwrap();
    log.append_line(b"one").unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), "one\n");
    assert_eq!(log.path(), target);

    // Only root can give a link away; without that right there is nobody to be protected from in this test.
    let foreign = dir.path().join("foreign.log");
    symlink("victim", &foreign).unwrap();
    if std::os::unix::fs::lchown(&foreign, Some(65534), Some(65534)).is_ok() {
        let error = CappedLog::open(&foreign).unwrap_err();
        assert!(matches!(error, LogError::ForeignLink { owner: 65534, .. }), "{error}");
        assert!(!dir.path().join("victim").exists());
    }
    symlink("loop.log", dir.path().join("loop.log")).unwrap();
    assert!(matches!(CappedLog::open(&dir.path().join("loop.log")).unwrap_err(), LogError::Open { .. }));
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let (dir, path) = scratch();
    assert!(CappedLog::open(dir.path()).is_err());
    assert!(matches!(CappedLog::open(Path::new("/dev/null")).unwrap_err(), LogError::NotAFile { .. }));
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    assert!(matches!(CappedLog::open(&path).unwrap_err(), LogError::NotAFile { .. }));
}

#[test]
fn directories_above_the_log_are_made() {
    let (dir, _) = scratch();
    let path = dir.path().join("a/b/c.log");
    CappedLog::open(&path).unwrap().append_line(b"x").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"x\n");
    let error = CappedLog::open(&path.join("d/e.log")).unwrap_err();
    assert!(matches!(error, LogError::Directory { .. }), "{error}");
}

#[test]
fn bytes_written_in_pieces_become_whole_lines() {
    let (_dir, path) = scratch();
    let mut log = CappedLog::open(&path).unwrap();
    for piece in ["on", "e\ntw", "o", "\n", "\nthr"] {
        log.write_all(piece.as_bytes()).unwrap();
    }
    log.flush().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n\n");
    log.room_bytes = Some(0);
    assert!(log.write_all(b"ee\n").is_err());
    log.write_all(b"four\n").unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is written, with a disk that fills up and empties: only whole lines, in order, below the cap.
    #[test]
    fn only_whole_lines_in_order_below_the_cap(
        cap in 30u64..200,
        steps in prop::collection::vec((0usize..60, prop::option::weighted(0.3, 0usize..40)), 1..60),
    ) {
        let (_dir, path) = scratch();
        let mut log = CappedLog::open_with(&path, small(cap)).unwrap();
        let mut expected = Vec::new();
        let mut said_lost = 0;
        for (number, (fill, room)) in steps.into_iter().enumerate() {
            log.room_bytes = room;
            let line = format!("{number} {}", "x".repeat(fill));
            match log.append_line(line.as_bytes()) {
                Ok(Appended::Written) => { prop_assert_eq!(said_lost, 0); expected.push(line); }
                Ok(Appended::Resumed { lines_lost }) => {
                    prop_assert_eq!(lines_lost, said_lost);
                    said_lost = 0;
                    expected.push(line);
                }
                Ok(Appended::StillLost) => { prop_assert!(said_lost > 0); said_lost += 1; }
                Err(_) => { prop_assert_eq!(said_lost, 0); said_lost = 1; }
            }
        }
        let parts = parts(&path);
        prop_assert!(parts.len() <= 4);
        for part in &parts {
            prop_assert!(part.len() as u64 <= cap || part.lines().count() == 1);
            prop_assert!(part.is_empty() || part.ends_with('\n'));
        }
        let all = parts.concat();
        let kept: Vec<&str> = all.lines().collect();
        prop_assert!(expected.ends_with(&kept.iter().map(|line| line.to_string()).collect::<Vec<_>>()));
    }
}
