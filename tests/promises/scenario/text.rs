//! Lines of text, by a program of ten lines.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use support::{Proc, python_with, workspace};

use super::program::{Program, Say, Told, Transport};

pub(super) struct Text {
    pub(super) address: String,
}

impl Transport for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn connect(&self, cursor: Option<&str>) -> Box<dyn Program> {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let mut program = Command::new(python_with(&["socket"]));
        program.arg(workspace().join("tests/python/text_lines.py")).args([host, port]);
        let mut proc = Proc::start_with_stdin(program.stdin(Stdio::piped()));
        let keyboard = proc.take_stdin().unwrap();
        Box::new(Lines { proc, keyboard, cursor: cursor.map(str::to_owned), read: 0, told: Vec::new() })
    }

    fn silence(&self) -> Duration {
        super::STUCK_MAX
    }
}

struct Lines {
    proc: Proc,
    keyboard: ChildStdin,
    cursor: Option<String>,
    read: usize,
    told: Vec<Told>,
}

impl Program for Lines {
    fn say(&mut self, what: Say<'_>) {
        let line = match what {
            Say::Id(id) => id.to_owned(),
            Say::UniqueId(unique_id) => unique_id.to_owned(),
            Say::Lost => "lost".to_owned(),
            Say::Confirm => String::new(),
            Say::Follow => self.cursor.as_ref().map_or("follow".to_owned(), |cursor| format!("follow since {cursor}")),
            Say::Put(name, value) => format!("put {name} {value}"),
        };
        // One that has ended says nothing any more.
        writeln!(self.keyboard, "{line}").ok();
    }

    fn told(&mut self) -> &[Told] {
        let over = self.proc.output_is_over();
        let lines = self.proc.output_after(self.read);
        self.read += lines.len();
        self.told.extend(lines.iter().flat_map(|line| version(line).into_iter().chain(translate(line))));
        if over && self.told.last() != Some(&Told::Cut) {
            self.told.push(Told::Cut);
        }
        &self.told
    }

    fn stand_still(&mut self) {
        self.proc.pause();
    }

    fn go_on(&mut self) {
        self.proc.resume();
    }

    fn kill(&mut self) {
        self.proc.kill9();
    }
}

fn version(line: &str) -> Option<Told> {
    let (word, rest) = line.split_once(' ')?;
    let version = rest.split(' ').next()?.parse().ok()?;
    matches!(word, "ok" | "value" | "gone").then_some(Told::Version(version))
}

fn translate(line: &str) -> Option<Told> {
    let words: Vec<&str> = line.splitn(4, ' ').collect();
    Some(match words.as_slice() {
        ["id?", ..] => Told::Id,
        ["issued", unique_id] => Told::Issued((*unique_id).to_owned()),
        ["unique_id?", ..] => Told::UniqueId,
        ["refused" | "error", code, text @ ..] => Told::refused(*code, text.join(" ")),
        ["welcome", ..] => Told::Welcome,
        ["ok", "all", ..] => Told::Reset,
        ["ok", version] if version.parse::<u64>().is_ok() => Told::Done,
        ["value", _, name, value] => Told::Value((*name).to_owned(), (*value).to_owned()),
        ["gone", _, name] => Told::Gone((*name).to_owned()),
        ["current", cursor, _] => Told::Current((*cursor).to_owned()),
        ["bye", code, ..] => Told::Bye((*code).to_owned()),
        _ => return None,
    })
}
