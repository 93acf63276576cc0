//! Names that others choose: of processes, disks and interfaces. None of them breaks a line, a cell or a terminal.

use super::*;

/// Everything that ends lines, cells and strings, steers terminals, or is markup.
const HOSTILE: &[u8] = b"a\"\n\r,;'\\\x1b]0;x\x07<b>&\xff\xe2\x80\xae";

#[test]
fn hostile_names_break_no_line_no_cell_and_no_terminal() {
    let dir = scratch();
    let tree = hostile_tree(&dir.join("proc"));
    for format in ["text", "csv", "json"] {
        let log = dir.join(format);
        let command = &mut monitor(&log);
        command.args(["--metrics", "processes,network", "--interval", "100ms", "--quiet", "--format", format]);
        let monitor = Proc::start(command.arg("--procfs").arg(&tree.0));
        let whole_lines = || {
            let mut log = fs::read(&log).unwrap_or_default();
            log.truncate(log.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
            log
        };
        // A part of the name that no format escapes.
        until(SOON, "a line with the process in it", || {
            lines(&whole_lines()).last().is_some_and(|line| line.contains("?]0;x?<"))
        });
        drop(monitor);
        let written = whole_lines();
        let text = std::str::from_utf8(&written).unwrap_or_else(|why| panic!("{format}: {why}"));
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{format}: {text:?}");
        assert!(!text.contains('\u{202e}'), "{format}: text that runs backwards: {text:?}");
        match format {
            "json" => {
                let lines = json_lines(&written);
                let last = lines.last().unwrap();
                assert_eq!(last["top_mem1_name"], "a\"??,;'\\?]0;x?<", "{last}");
                assert!(last.get("net_e%22%1b%2c<%ff_rx_bytes_per_s").is_some(), "{last}");
            }
            "csv" => {
                let code = "import csv, sys\n\
                            rows = list(csv.reader(open(sys.argv[1], newline=''), strict=True))\n\
                            assert len({len(row) for row in rows}) == 1, rows\n\
                            row = dict(zip(rows[0], rows[-1]))\n\
                            assert row['top_mem1_name'] == 'a\"??,;\\'\\\\?]0;x?<', row\n";
                run(Command::new(python()).args(["-c", code]).arg(&log));
            }
            _ => assert!(text.lines().all(|line| line.starts_with("20")), "{text:?}"),
        }
    }
}

#[test]
fn hostile_names_break_no_label() {
    let dir = scratch();
    let tree = hostile_tree(&dir.join("proc"));
    let command = &mut lockstep();
    command.args(["monitor", "--log", "none", "--interval", "1s", "--prometheus", "0", "--procfs"]).arg(&tree.0);
    let monitor = Proc::start(command);
    let line = monitor.wait_for_line("metrics: http://", SOON);
    let code = "import sys, urllib.request\n\
                from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                ask = urllib.request.Request(sys.argv[1], headers={'Accept': 'application/openmetrics-text'})\n\
                page = urllib.request.urlopen(ask, timeout=20).read().decode()\n\
                assert all(char == '\\n' or char.isprintable() for char in page), page\n\
                found = {family.name: family.samples for family in parse(page)}\n\
                sample, = found['node_network_transmit_bytes']\n\
                assert (sample.labels, sample.value) == ({'device': 'e\"%1b,<%ff'}, 9), sample\n";
    let python = support::python_with(&["prometheus_client"]);
    run(Command::new(python).args(["-c", code, line.trim_start_matches("metrics: ")]));
}

/// A machine on which everything that has a name has a hostile one.
fn hostile_tree(path: &Path) -> Procfs {
    let tree = Procfs::at(path.to_owned());
    tree.cpu(&[100, 0, 0, 100]);
    let process = tree.0.join("7");
    fs::create_dir(&process).unwrap();
    let stat = [b"7 (", &HOSTILE[..15], b") S 1 1 1 0 -1 0 0 0 0 0 5 5 0 0 20 0 1 0 9 4096 77 0\n"].concat();
    fs::write(process.join("stat"), stat).unwrap();
    fs::create_dir(tree.0.join("net")).unwrap();
    // The kernel allows no space, colon, slash or newline in an interface's name.
    let dev = b"Inter-|\n face |\n e\"\x1b,<\xff: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
    fs::write(tree.0.join("net/dev"), dev).unwrap();
    tree
}
