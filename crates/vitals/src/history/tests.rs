//! What a history promises, with everything done to its files that can happen to files.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;

/// A row as it is told: both clocks, and the bits of each value.
type Told = (i64, i64, Vec<Option<u64>>);

fn columns(names: &[&str]) -> Schema {
    let columns = names.iter().map(|name| Column { key: (*name).into(), unit: "number".into() }).collect();
    Schema { columns, boot: None }
}

const SMALL: Options = Options { bytes_max: BYTES_MAX_MIN, block_rows: 8 };

/// In memory where there is such a place: what is tested here does not depend on the disk, and thousands of syncs would take
/// minutes.
fn tempdir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A row of two columns that is like no other.
fn row(number: i64) -> (i64, i64, [Option<f64>; 2]) {
    (1_700_000_000_000 + number * 1000, 5_000 + number * 1000, [Some(number as f64), (number % 3 > 0).then_some(0.5)])
}

fn told((wall_ms, boot_ms, values): (i64, i64, [Option<f64>; 2])) -> Told {
    (wall_ms, boot_ms, values.map(|value| value.map(f64::to_bits)).to_vec())
}

fn append(writer: &mut Writer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let (wall_ms, boot_ms, values) = row(number);
        assert_eq!(writer.append(wall_ms, boot_ms, values).unwrap(), Appended::Written);
    }
}

fn open(dir: &Path) -> Writer {
    Writer::open(dir, columns(&["a", "b"]), SMALL).unwrap()
}

fn read(dir: &Path, range: Range) -> (Vec<Told>, Skipped) {
    let history = History::open(dir).unwrap();
    let mut rows = history.rows(range);
    let mut found = Vec::new();
    while let Some((schema, block)) = rows.next_block().unwrap() {
        assert_eq!(schema.columns.len(), block.columns.len());
        for at in 0..block.rows() {
            let values = block.columns.iter().map(|column| column[at].map(f64::to_bits)).collect();
            found.push((block.wall_ms[at], block.boot_ms[at], values));
        }
    }
    (found, rows.skipped())
}

fn all(dir: &Path) -> (Vec<Told>, Skipped) {
    read(dir, Range::ALL)
}

fn rows(numbers: std::ops::Range<i64>) -> Vec<Told> {
    numbers.map(row).map(told).collect()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap() != "lock");
    files.sort();
    files
}

fn bytes(dir: &Path) -> u64 {
    files(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// A history of 21 rows: two blocks and five rows that are in none.
fn twenty_one() -> TempDir {
    let dir = tempdir();
    append(&mut open(dir.path()), 0..21);
    dir
}

#[test]
fn rows_come_back_in_order_whenever_the_writer_was_started_anew() {
    for every in [1, 2, 7, 8, 9, 50] {
        let dir = tempdir();
        for first in (0..50).step_by(every) {
            let numbers = first..(first + i64::try_from(every).unwrap()).min(50);
            append(&mut open(dir.path()), numbers.clone());
            assert_eq!(all(dir.path()), (rows(0..numbers.end), Skipped::default()));
        }
        assert_eq!(files(dir.path()).len(), 2, "one segment, continued each time");
    }
}

#[test]
fn a_span_of_time_is_read_alone_and_both_its_ends_belong_to_it() {
    let dir = twenty_one();
    for (first, last) in [(0, 20), (7, 8), (3, 3), (15, 17), (20, 20)] {
        let range = Range { from_ms: row(first).0, to_ms: row(last).0 };
        assert_eq!(read(dir.path(), range).0, rows(first..last + 1));
    }
    let nothing = Range { from_ms: 0, to_ms: 1 };
    assert_eq!(read(dir.path(), nothing).0, []);
    let history = History::open(dir.path()).unwrap();
    assert_eq!(history.span(), Some(Range { from_ms: row(0).0, to_ms: row(20).0 }));
    assert_eq!((history.schemas(nothing).len(), history.schemas(Range::ALL).len()), (0, 1));
}

#[test]
fn other_columns_begin_a_new_segment_and_both_are_read() {
    let dir = twenty_one();
    let mut other = Writer::open(dir.path(), columns(&["a", "c"]), SMALL).unwrap();
    append(&mut other, 21..25);
    drop(other);
    append(&mut open(dir.path()), 25..26);
    assert_eq!(all(dir.path()), (rows(0..26), Skipped::default()));
    let schemas = History::open(dir.path()).unwrap().schemas(Range::ALL);
    let names: Vec<Vec<&str>> =
        schemas.iter().map(|schema| schema.columns.iter().map(|column| &*column.key).collect()).collect();
    assert_eq!(names, [["a", "b"], ["a", "c"]]);
}

#[test]
fn another_boot_begins_a_new_segment_and_rows_of_the_one_before_are_packed() {
    let dir = twenty_one();
    let single =
        files(dir.path()).into_iter().find(|file| file.extension().is_some_and(|kind| kind == "rows")).unwrap();
    assert!(fs::metadata(&single).unwrap().len() > 0);
    let boot = Schema { boot: Some("b".into()), ..columns(&["a", "b"]) };
    append(&mut Writer::open(dir.path(), boot, SMALL).unwrap(), 21..24);
    assert_eq!(fs::metadata(&single).unwrap().len(), 0);
    assert_eq!(all(dir.path()), (rows(0..24), Skipped::default()));
}

#[test]
fn a_second_writer_is_refused_and_the_first_goes_on() {
    let dir = tempdir();
    let mut first = open(dir.path());
    append(&mut first, 0..3);
    let error = Writer::open(dir.path(), columns(&["a"]), SMALL).unwrap_err();
    assert!(matches!(&error, HistoryError::InUse { .. }) && error.to_string().contains("another process"), "{error}");
    append(&mut first, 3..12);
    assert_eq!(all(dir.path()), (rows(0..12), Skipped::default()));
}

#[test]
fn a_cut_at_any_byte_costs_only_what_is_behind_it() {
    let dir = twenty_one();
    for file in files(dir.path()) {
        let whole = fs::read(&file).unwrap();
        let mut fewest_read = usize::MAX;
        for cut in (0..whole.len()).rev() {
            fs::write(&file, &whole[..cut]).unwrap();
            let (found, skipped) = all(dir.path());
            let lost: Vec<Told> = rows(0..21).into_iter().filter(|row| !found.contains(row)).collect();
            let readable: Vec<Told> = rows(0..21).into_iter().filter(|row| found.contains(row)).collect();
            assert_eq!(found, readable, "in order, each once");
            assert!(found.len() <= fewest_read, "{file:?} cut at {cut} shows more than when cut later");
            fewest_read = found.len();
            if file.extension().is_some_and(|kind| kind == "rows") {
                assert_eq!(found[..16], rows(0..16), "blocks do not depend on single rows");
                let each = whole.len() / 5;
                assert_eq!(lost.len(), 5 - cut / each);
                assert_eq!(skipped.single_rows, u64::from(cut % each > 0));
            }
        }
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(all(dir.path()), (rows(0..21), Skipped::default()));
}

#[test]
fn a_flipped_bit_costs_its_block_or_its_row_and_is_counted() {
    let dir = twenty_one();
    for file in files(dir.path()) {
        let whole = fs::read(&file).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &damaged).unwrap();
            let (found, skipped) = all(dir.path());
            let lost: Vec<i64> = (0..21).filter(|number| !found.contains(&told(row(*number)))).collect();
            let one = matches!(lost[..], [] | [_] | [0, .., 7] | [8, .., 15]) && [0, 1, 8].contains(&lost.len());
            assert!(one, "{file:?} bit {bit}: {lost:?}");
            assert_eq!(found.len() + lost.len(), 21, "nothing is told that was not recorded");
            assert!(lost.is_empty() || !skipped.is_nothing(), "{file:?} bit {bit} lost {lost:?} and nobody is told");
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn what_is_damaged_is_never_written_behind_or_over() {
    let dir = twenty_one();
    for file in files(dir.path()) {
        let whole = fs::read(&file).unwrap();
        for cut in [whole.len() - 1, whole.len() / 2, 3] {
            fs::write(&file, &whole[..cut]).unwrap();
            let (before, _) = all(dir.path());
            append(&mut open(dir.path()), 100..130);
            assert!(fs::read(&file).unwrap().starts_with(&whole[..cut]));
            let after: Vec<Told> = before.into_iter().chain(rows(100..130)).collect();
            assert_eq!(all(dir.path()).0, after, "{file:?} cut at {cut}");
            for new in files(dir.path()).into_iter().skip(2) {
                fs::remove_file(new).unwrap();
            }
            fs::write(&file, &whole).unwrap();
        }
    }
}

/// Between the two steps of a fold rows are in a block and single too.
#[test]
fn killed_in_the_middle_of_a_fold_each_row_is_told_once() {
    let dir = tempdir();
    append(&mut open(dir.path()), 0..16);
    let single =
        files(dir.path()).into_iter().find(|file| file.extension().is_some_and(|kind| kind == "rows")).unwrap();
    let segment = single.with_extension("seg");
    let (before, rows_before) = (fs::read(&segment).unwrap(), fs::read(&single).unwrap());
    append(&mut open(dir.path()), 16..17);
    let after = fs::read(&segment).unwrap();
    assert!(after.len() > before.len() && after.starts_with(&before));
    for cut in before.len()..=after.len() {
        fs::write(&segment, &after[..cut]).unwrap();
        fs::write(&single, &rows_before).unwrap();
        assert_eq!(all(dir.path()).0, rows(0..16), "cut at {cut}");
        append(&mut open(dir.path()), 16..30);
        assert_eq!(all(dir.path()).0, rows(0..30), "continued after {cut}");
        for file in files(dir.path()).into_iter().skip(2) {
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn the_cap_holds_at_every_moment_and_the_oldest_go_first() {
    let dir = tempdir();
    let wide: Vec<String> = (0..40).map(|number| format!("column {number}")).collect();
    let wide = columns(&wide.iter().map(String::as_str).collect::<Vec<_>>());
    let options = Options { bytes_max: BYTES_MAX_MIN, block_rows: 64 };
    let mut writer = Writer::open(dir.path(), wide.clone(), options).unwrap();
    // Numbers without any pattern, so that the cap is passed many times. The clock runs backwards: it decides nothing.
    let noise = |number: u64| f64::from_bits(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 2);
    for number in 0..12_000_i64 {
        let values = (0..40).map(|column| Some(noise(number.unsigned_abs() * 40 + column)));
        assert_eq!(writer.append(-number, number, values).unwrap(), Appended::Written);
        assert_eq!(writer.bytes(), bytes(dir.path()));
        assert!(writer.bytes() <= BYTES_MAX_MIN, "row {number}");
    }
    let (found, skipped) = all(dir.path());
    assert!(skipped.is_nothing());
    assert!(found.len() > 2000, "the cap is used: {} rows", found.len());
    let first = 12_000 - i64::try_from(found.len()).unwrap();
    assert!(found.iter().map(|(_, boot_ms, _)| *boot_ms).eq(first..12_000), "the newest, without a hole");
    drop(writer);
    let less = Options { bytes_max: BYTES_MAX_MIN / 2, ..options };
    drop(Writer::open(dir.path(), wide.clone(), less).unwrap());
    assert!(bytes(dir.path()) <= BYTES_MAX_MIN / 2, "a lower cap holds from the start");
    assert_eq!(all(dir.path()).0.last(), found.last());
    let error = Writer::open(dir.path(), wide, Options { bytes_max: 4096, ..options }).unwrap_err();
    assert!(error.to_string().contains("--history-max"), "{error}");
}

#[test]
fn a_full_disk_is_said_once_and_the_history_resumes_by_itself() {
    let whole = {
        let dir = tempdir();
        append(&mut open(dir.path()), 0..30);
        usize::try_from(bytes(dir.path())).unwrap() + 1000
    };
    for room in 0..whole {
        let dir = tempdir();
        let mut writer = open(dir.path());
        writer.room_bytes = room;
        let (mut written, mut lost) = (Vec::new(), 0);
        let mut append = |writer: &mut Writer, number: i64| {
            let (wall_ms, boot_ms, values) = row(number);
            let outcome = writer.append(wall_ms, boot_ms, values);
            if matches!(outcome, Ok(Appended::Written | Appended::Resumed { .. })) {
                written.push(told(row(number)));
            }
            outcome
        };
        for number in 0..30 {
            match append(&mut writer, number) {
                Ok(Appended::Written) => {}
                Ok(Appended::StillLost) if lost > 0 => lost += 1,
                Err(HistoryError::Failed { .. }) if lost == 0 => lost = 1,
                // Where a block does not fit, a row may.
                Ok(Appended::Resumed { rows_lost }) if rows_lost == lost => lost = 0,
                other => panic!("{other:?} with room for {room}"),
            }
        }
        writer.room_bytes = usize::MAX;
        let expected = if lost > 0 { Appended::Resumed { rows_lost: lost } } else { Appended::Written };
        assert_eq!(append(&mut writer, 30).unwrap(), expected);
        assert_eq!(append(&mut writer, 31).unwrap(), Appended::Written);
        assert_eq!(all(dir.path()), (written, Skipped::default()), "room for {room}");
    }
}

#[test]
fn clocks_that_jump_keep_the_order_and_both_are_told() {
    let dir = tempdir();
    let mut writer = open(dir.path());
    let walls = [1000, 2000, -5_000_000, i64::MAX, i64::MIN, 3000, 3000, 2999];
    let expected: Vec<Told> = (0..).zip(walls).map(|(at, wall_ms)| (wall_ms, at, vec![None, Some(0)])).collect();
    for _ in 0..2 {
        for (at, wall_ms) in (0..).zip(walls) {
            writer.append(wall_ms, at, [Some(f64::NAN), Some(0.0)]).unwrap();
        }
    }
    assert_eq!(all(dir.path()), ([expected.clone(), expected].concat(), Skipped::default()));
    let wound_back = Range { from_ms: -6_000_000, to_ms: 0 };
    assert_eq!(read(dir.path(), wound_back).0.len(), 2);
}

#[test]
fn a_directory_removed_under_the_writer_is_begun_anew() {
    let dir = tempdir();
    let place = dir.path().join("history");
    let mut writer = open(&place);
    append(&mut writer, 0..10);
    fs::remove_dir_all(&place).unwrap();
    append(&mut writer, 10..12);
    assert_eq!(all(&place), (rows(10..12), Skipped::default()));
    for file in files(&place) {
        fs::remove_file(file).unwrap();
    }
    append(&mut writer, 12..14);
    assert_eq!(all(&place), (rows(12..14), Skipped::default()));
    assert!(matches!(Writer::open(&place, columns(&["a"]), SMALL), Err(HistoryError::InUse { .. })));
}

#[test]
fn a_reader_beside_the_writer_sees_every_row_there_was_and_no_damage() {
    let dir = tempdir();
    let mut writer = open(dir.path());
    for opened in 0..50 {
        append(&mut writer, opened * 9..opened * 9 + 9);
        let history = History::open(dir.path()).unwrap();
        let there = rows(0..opened * 9 + 9);
        // Enough to fold what was single when it was opened.
        append(&mut writer, 1000 + opened * 9..1000 + opened * 9 + 9);
        let mut found = history.rows(Range { from_ms: 0, to_ms: row(999).0 });
        let mut walls = Vec::new();
        while let Some((_, block)) = found.next_block().unwrap() {
            walls.extend(block.wall_ms);
        }
        assert!(walls.iter().eq(there.iter().map(|(wall_ms, ..)| wall_ms)));
        assert!(found.skipped().is_nothing());
    }
}

#[test]
fn where_there_is_no_history_it_is_said_and_nothing_is_made() {
    let dir = tempdir();
    for place in [dir.path().to_owned(), dir.path().join("nothing")] {
        let error = History::open(&place).unwrap_err();
        assert!(error.to_string().contains("--history DIR"), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// The figure of the requirement: at most 16 bytes a sample of 12 series at 1 Hz. The machine is a model of a busy one with four
/// CPUs: ticks that jitter, memory that moves by pages.
#[test]
fn twelve_series_take_at_most_16_bytes_a_sample() {
    let dir = tempdir();
    let names = ["busy", "user", "system", "iowait", "steal"].map(|name| (name, "percent"));
    let others = [
        ("load", ""),
        ("used", "bytes"),
        ("available", "bytes"),
        ("cached", "bytes"),
        ("swap", "bytes"),
        ("psi", "percent"),
    ];
    let columns: Vec<Column> =
        names.into_iter().chain(others).map(|(name, unit)| Column { key: name.into(), unit: unit.into() }).collect();
    let schema = Schema { columns, boot: None };
    let mut writer = Writer::open(dir.path(), schema, Options::default()).unwrap();
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const ROWS: i64 = 20 * 1024;
    let (mut level, mut used_pages, mut cached_pages, mut load) = (80_u64, 500_000_u64, 900_000_u64, 1.0_f64);
    for second in 0..ROWS {
        if random(60) == 0 {
            level = random(300);
        }
        let total = 398 + random(5);
        let system = level / 4 + random(8);
        let user = (level + random(30)).min(total - system);
        let iowait = random(20) / 18 * random(6).min(total - system - user);
        let percent = |ticks: u64| Some(ticks as f64 * 100.0 / total as f64);
        used_pages = (used_pages + random(600)).saturating_sub(300);
        cached_pages += random(40);
        if second % 5 == 0 {
            load += (level as f64 / 100.0 - load) / 12.0;
        }
        let pages = |pages: u64| Some((pages * 4096) as f64);
        let values = [
            percent(user + system),
            percent(user),
            percent(system),
            percent(iowait),
            percent(0),
            Some((load * 100.0).round() / 100.0),
            pages(used_pages),
            pages(4_000_000 - used_pages),
            pages(cached_pages),
            pages(1234),
            percent(random(level / 20 + 1)),
        ];
        let jitter = i64::from(random(30) == 0);
        writer.append(1_700_000_000_000 + second * 1000 + jitter, second * 1000 + jitter, values).unwrap();
    }
    let each = bytes(dir.path()) as f64 / ROWS as f64;
    println!("{each:.2} bytes a sample");
    assert!(each <= 16.0, "{each:.2} bytes a sample");
}
