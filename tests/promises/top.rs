//! `lockstep top`: on a real pseudo-terminal, which is as before whatever ends it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use support::{lockstep, python, scratch};

/// Runs a program on a pseudo-terminal, waits until it shows a word, does one thing, and tells what was written, whether the
/// terminal's modes are as before, and how it ended.
const TERMINAL: &str = "import os, pty, select, signal, sys, termios, time, fcntl, struct\n\
    word, act, rows, cols, *command = sys.argv[1:]\n\
    main, end = pty.openpty()\n\
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack('HHHH', int(rows), int(cols), 0, 0))\n\
    before = termios.tcgetattr(end)\n\
    pid = os.fork()\n\
    if pid == 0:\n\
    \x20   os.login_tty(end) if hasattr(os, 'login_tty') else [os.setsid(), fcntl.ioctl(end, termios.TIOCSCTTY, 0)] + [os.dup2(end, n) for n in range(3)]\n\
    \x20   os.execv(command[0], command)\n\
    seen, acted, until = b'', False, time.monotonic() + 30\n\
    while time.monotonic() < until:\n\
    \x20   if select.select([main], [], [], 0.05)[0]: seen += os.read(main, 65536)\n\
    \x20   if not acted and word.encode() in seen:\n\
    \x20       acted = True\n\
    \x20       os.write(main, act[1:].encode()) if act[0] == '+' else os.kill(pid, getattr(signal, act))\n\
    \x20   ended, status = os.waitpid(pid, os.WNOHANG)\n\
    \x20   if ended: break\n\
    else: os.kill(pid, signal.SIGKILL); sys.exit('it did not end; it showed ' + repr(seen[-3000:]))\n\
    while select.select([main], [], [], 0)[0]: seen += os.read(main, 65536)\n\
    assert termios.tcgetattr(end) == before, 'the modes are not as before'\n\
    assert seen.rstrip().endswith((b'\\x1b[?25h', b'\\x1b[?1049l')) and b'\\x1b[?1049l' in seen, seen[-300:]\n\
    print(os.waitstatus_to_exitcode(status)); sys.stdout.flush(); os.write(1, seen)\n";

fn on_terminal(word: &str, act: &str, (rows, columns): (u16, u16), command: &Command) -> (i32, Vec<u8>) {
    let mut terminal = Command::new(python());
    terminal.args(["-c", TERMINAL, word, act, &rows.to_string(), &columns.to_string()]);
    terminal.arg(command.get_program()).args(command.get_args()).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            terminal.env(name, value);
        }
    }
    let output = terminal.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let end = output.stdout.iter().position(|byte| *byte == b'\n').unwrap();
    (String::from_utf8_lossy(&output.stdout[..end]).parse().unwrap(), output.stdout[end + 1..].to_vec())
}

#[test]
fn every_way_out_leaves_the_terminal_as_it_was() {
    let mut top = lockstep();
    top.arg("top");
    let ways = [
        ("+q", 0),
        ("+\u{1b}[D\u{1b}[C\u{1b}[5~\u{1b}[H\u{1b}[Fq", 0),
        ("+\u{3}", 130),
        ("SIGTERM", 0),
        ("SIGINT", 130),
        ("SIGHUP", 0),
    ];
    for (act, code) in ways {
        let (ended, _) = on_terminal("live", act, (34, 120), &top);
        assert_eq!(ended, code, "{act:?}");
    }
    on_terminal("\u{1b}[?1049h", "+q", (3, 9), &top);
}

#[test]
fn a_hostile_process_name_steers_nothing_and_no_color_is_obeyed() {
    let dir = scratch();
    for (file, content) in
        [("stat", "cpu 1 0 0 9\ncpu0 1 0 0 9\n"), ("meminfo", "MemTotal: 4000 kB\nMemAvailable: 3000 kB\n")]
    {
        fs::write(dir.join(file), content).unwrap();
    }
    fs::create_dir(dir.join("7")).unwrap();
    fs::set_permissions(dir.join("7"), fs::Permissions::from_mode(0o755)).unwrap();
    let name = "e\u{1b}]0;own\u{7}\u{9b}2J\nx";
    fs::write(dir.join("7/stat"), format!("7 ({name}) S 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 9 4096 90 0 0 0\n"))
        .unwrap();
    let mut top = lockstep();
    top.arg("top").arg("--procfs").arg(&*dir).env("NO_COLOR", "1");
    let (code, seen) = on_terminal("own", "+q", (40, 160), &top);
    assert_eq!(code, 0);
    let has = |what: &[u8]| seen.windows(what.len()).any(|part| part == what);
    assert!(!has(b"\x1b]0;own") && !has(b"\x07") && !has("\u{9b}2J".as_bytes()), "{}", seen.escape_ascii());
    for color in 30..=37 {
        assert!(!has(format!("\u{1b}[{color}m").as_bytes()) && !has(b"\x1b[38;5;"), "{color}");
    }
}

#[test]
fn without_a_terminal_or_a_history_it_says_so_and_ends() {
    let none = lockstep().arg("top").output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("needs a terminal; `lockstep monitor` prints the same as lines")
    );
}
