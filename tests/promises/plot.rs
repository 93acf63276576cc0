//! `lockstep plot`: pictures of logs and histories, whatever is in them and whatever they are called.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{lockstep, python, scratch};

/// Reads pictures without our own code: an SVG's texts and the ends of its longest lines, a PNG's size and colours.
const READER: &str = "import sys, struct, zlib, xml.etree.ElementTree as E\n\
    raw = open(sys.argv[1], 'rb').read()\n\
    if raw[:4] == b'\\x89PNG':\n\
    \x20   at, data = 8, b''\n\
    \x20   while at < len(raw):\n\
    \x20       n, = struct.unpack('>I', raw[at:at+4]); kind, body = raw[at+4:at+8], raw[at+8:at+8+n]\n\
    \x20       assert zlib.crc32(kind + body) == struct.unpack('>I', raw[at+8+n:at+12+n])[0]\n\
    \x20       if kind == b'IHDR': w, h, depth, color = struct.unpack('>IIBB', body[:10])\n\
    \x20       if kind == b'IDAT': data += body\n\
    \x20       at += 12 + n\n\
    \x20   points = zlib.decompress(data)\n\
    \x20   assert (depth, color) == (8, 2) and len(points) == h * (1 + w * 3) and len(set(points)) > 50\n\
    \x20   print(w, h)\n\
    else:\n\
    \x20   tree = E.fromstring(raw)\n\
    \x20   assert tree.tag.endswith('}svg'), tree.tag\n\
    \x20   names = {e.tag.split('}')[1] for e in tree.iter()}\n\
    \x20   assert not names - {'svg', 'title', 'rect', 'polyline', 'polygon', 'line', 'text', 'circle'}, names\n\
    \x20   print(tree.get('width'), tree.get('height'))\n\
    \x20   for e in tree.iter():\n\
    \x20       if e.tag.endswith('}text'): print('text', ' '.join(e.text.split()))\n\
    \x20       if e.tag.endswith('}polyline') and e.get('stroke') == '#2563EB':\n\
    \x20           points = e.get('points').split(); print('busy', len(points))\n";

fn look_at(picture: &Path) -> String {
    let output = run(Command::new(python()).args(["-c", READER]).arg(picture));
    String::from_utf8(output.stdout).unwrap()
}

/// A log of an hour with a sample a second, but nothing for twenty minutes, and in one minute no CPU rate.
fn log(format: &str) -> String {
    let mut log =
        if format == "csv" { "time,cpu_busy_pct,mem_used_bytes,mem_total_bytes\n".into() } else { String::new() };
    for second in (0..3600_i32).filter(|second| !(1200..2400).contains(second)) {
        let time = format!("2026-01-31T{:02}:{:02}:{:02}.000Z", 10 + second / 3600, second / 60 % 60, second % 60);
        let cpu = (!(600..660).contains(&second)).then(|| f64::from(second % 90));
        let (used, total) = ((1_u64 << 30) + u64::from(second.unsigned_abs()) * 1000, 4_u64 << 30);
        log += &match format {
            "csv" => format!("{time},{},{used},{total}\n", cpu.map_or(String::new(), |cpu| cpu.to_string())),
            "json" => {
                let cpu = cpu.map_or("null".into(), |cpu| cpu.to_string());
                format!(
                    "{{\"time\":\"{time}\",\"cpu_busy_pct\":{cpu},\"mem_used_bytes\":{used},\"mem_total_bytes\":{total}}}\n"
                )
            }
            _ => {
                let cpu = cpu.map_or("-".into(), |cpu| format!("{cpu:.1}%"));
                format!("{time}  cpu {cpu:>6}  used    1.1 GiB  available    2.9 GiB  total    4.0 GiB\n")
            }
        };
    }
    log
}

#[test]
fn a_log_of_each_format_becomes_a_picture_with_axes_units_legend_and_gaps() {
    let dir = scratch();
    for format in ["text", "csv", "json"] {
        let source = dir.join(format!("{format}.log"));
        fs::write(&source, log(format)).unwrap();
        let picture = dir.join(format!("{format}.svg"));
        let output = run(plot(&source, &picture).env("TZ", "UTC"));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("2400 samples are drawn in ") && said.lines().count() == 1, "{said}");
        let found = look_at(&picture);
        for word in ["CPU", "percent of all CPUs", "100 %", "Memory", "4 GiB", "no data", "10:30", "31 Jan 2026", "UTC"]
        {
            assert!(found.contains(word), "{format}: {word}\n{found}");
        }
        assert!(found.starts_with("1200 640\n") && found.contains("text busy mean"), "{found}");
        // Before the minute without a rate, after it, and after the gap.
        assert_eq!(found.lines().filter(|line| line.starts_with("busy ")).count(), 3, "{format}\n{found}");
    }
}

#[test]
fn a_png_has_the_size_asked_for_light_and_dark() {
    let dir = scratch();
    let source = dir.join("log");
    fs::write(&source, log("json")).unwrap();
    let mut pictures = Vec::new();
    for theme in ["light", "dark"] {
        let picture = dir.join(format!("{theme}.PNG"));
        run(plot(&source, &picture).args(["--theme", theme, "--size", "801x443"]));
        assert_eq!(look_at(&picture), "801 443\n");
        pictures.push(fs::read(&picture).unwrap());
    }
    assert_ne!(pictures[0], pictures[1]);
}

#[test]
fn a_history_and_what_the_monitor_logged_meanwhile_are_the_same_picture_but_for_rounding() {
    let dir = scratch();
    let (history, log) = (dir.join("history"), dir.join("log"));
    let mut monitor = lockstep();
    monitor.args(["monitor", "--quiet", "--interval", "10ms", "--count", "40", "--format", "csv", "--history"]);
    run(monitor.arg(&history).arg("--log").arg(&log));
    let found: Vec<String> = [&history, &log]
        .into_iter()
        .map(|source| {
            let picture = dir.join("x.svg");
            run(plot(source, &picture).args(["--title", "same"]));
            look_at(&picture)
                .lines()
                .filter(|line| !line.starts_with("text busy mean"))
                .map(|line| format!("{line}\n"))
                .collect()
        })
        .collect();
    assert_eq!(found[0], found[1]);
    assert!(found[0].contains("40 samples"), "{}", found[0]);
}

#[test]
fn bad_lines_are_counted_and_told_and_the_rest_is_drawn() {
    let dir = scratch();
    let source = dir.join("log");
    let good = log("json");
    fs::write(&source, format!("{good}nonsense\n\u{1b}[31m\n{}", &good[..100])).unwrap();
    fs::write(dir.join("log.2"), "2026-01-31T09:59:00.000Z  cpu   1.0%\n<svg>\n").unwrap();
    let output = run(&mut plot(&source, &dir.join("x.svg")));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1 lines of ") && said.contains("log.2 are no samples"), "{said}");
    assert!(said.contains("3 lines of ") && said.contains("the first is line 2401"), "{said}");
    assert!(said.contains("2401 samples are drawn"), "the older parts too: {said}");
}

#[test]
fn any_name_of_a_log_is_only_a_title() {
    let dir = scratch();
    let name = b"<script>alert(1)<!--]]>&amp;\x1b[31m\n\xff\xe2\x80\xae\"'.log";
    let source = dir.join(OsStr::from_bytes(name));
    fs::write(&source, log("text")).unwrap();
    let picture = dir.join("x.svg");
    run(&mut plot(&source, &picture));
    let found = look_at(&picture);
    assert!(found.contains("<script>alert(1)<!--]]>&amp;?[31m?"), "{found}");
    assert!(!fs::read(&picture).unwrap().contains(&0x1b));
}

#[test]
fn what_cannot_be_drawn_is_refused_and_an_older_picture_stays() {
    let dir = scratch();
    let (source, picture) = (dir.join("log"), dir.join("x.png"));
    fs::write(&picture, "older").unwrap();
    fs::write(&source, "nothing\n").unwrap();
    let cases: [(&[&str], i32, &str); 5] = [
        (&[], 3, "has no sample with CPU or memory in this span"),
        (&["--from", "2027-01-01"], 3, "has no sample"),
        (&["--size", "10x10"], 2, "480x360"),
        (&["--from", "-1m", "--to", "-1h"], 2, "--from is later than --to"),
        (&["--theme", "pink"], 2, "light"),
    ];
    for (arguments, code, word) in cases {
        let output = plot(&source, &picture).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(word), "{arguments:?}: {said}");
    }
    let missing = plot(&dir.join("missing"), &picture).output().unwrap();
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(missing.status.code() == Some(3) && said.contains("missing; no picture was made"), "{said}");
    let kind = plot(&source, &dir.join("x.jpg")).output().unwrap();
    assert_eq!(kind.status.code(), Some(2));
    assert_eq!(fs::read(&picture).unwrap(), b"older");
    fs::write(&source, log("csv")).unwrap();
    let nowhere = plot(&source, &dir.join("no/x.svg")).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(3));
    let left: Vec<PathBuf> = fs::read_dir(&*dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

fn plot(source: &Path, picture: &Path) -> Command {
    let mut command = lockstep();
    command.arg("plot").arg(source).arg("-o").arg(picture);
    command
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}
