//! A program of ten lines, as somebody would write it against `docs/text.md`, without anything of ours.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use support::{Cluster, PATIENCE};

/// A hub that speaks text on a port of this machine.
pub(crate) fn text_hub(args: &[&str]) -> (Cluster, String) {
    let args: Vec<&str> = ["--text", "127.0.0.1:0"].iter().chain(args).copied().collect();
    let mut cluster = Cluster::start(|_| {}, &args);
    let address = address_of(&mut cluster);
    (cluster, address)
}

/// Where the hub, at its last start, said that it speaks text.
pub(crate) fn address_of(cluster: &mut Cluster) -> String {
    let line = cluster.hub().wait_for_line("(plain text", PATIENCE);
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// A connection that types lines and reads lines.
pub(crate) struct Typist {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Typist {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        Self { stream, lines }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // One that was cut is found out by what it reads.
        self.stream.write_all(bytes).ok();
    }

    /// The next line that is not a remark; `None` at the end of the connection.
    pub(crate) fn read_line(&mut self) -> Option<String> {
        loop {
            let mut line = Vec::new();
            match self.lines.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                read => read.unwrap_or_else(|error| panic!("no line: {error}")),
            };
            let line = String::from_utf8(line).expect("every line is UTF-8");
            let line = line.strip_suffix('\n').unwrap_or_else(|| panic!("half a line: {line:?}"));
            if !line.starts_with('#') {
                return Some(line.to_owned());
            }
        }
    }

    /// The next `count` bytes.
    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.lines.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Whatever comes, to the end.
    pub(crate) fn read_all(mut self) {
        let mut bytes = Vec::new();
        if let Err(error) = self.lines.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    }

    /// Whatever comes, up to a line.
    pub(crate) fn read_until(&mut self, last: &str) {
        let mut bytes = Vec::new();
        while bytes.trim_ascii_end() != last.as_bytes() {
            bytes.clear();
            assert!(self.lines.read_until(b'\n', &mut bytes).unwrap() > 0, "closed before {last}");
        }
    }

    /// The next line, which begins with `word`; the rest of it.
    #[track_caller]
    pub(crate) fn expect(&mut self, word: &str) -> String {
        let line = self.read_line().unwrap_or_else(|| panic!("closed instead of {word}"));
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("{line:?} instead of {word}"));
        rest.trim_start().to_owned()
    }

    /// Types a command; all lines of the answer, the last of which begins with `ok` or `error`. Only while nothing is
    /// followed that changes.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> Vec<String> {
        self.type_line(line);
        let mut answer = Vec::new();
        loop {
            answer.push(self.read_line().unwrap_or_else(|| panic!("closed instead of an answer to {line}")));
            if answer.last().is_some_and(|line| line.starts_with("ok") || line.starts_with("error ")) {
                return answer;
            }
        }
    }

    /// Logs in for the first time; also the unique ID.
    #[track_caller]
    pub(crate) fn enrolled(address: &str, id: u64) -> (Self, String) {
        let mut typist = Self::connect(address);
        typist.expect("id?");
        typist.type_line(&id.to_string());
        let unique_id = typist.expect("issued");
        typist.type_line("");
        typist.expect("welcome");
        (typist, unique_id)
    }

    /// Logs in with the unique ID.
    #[track_caller]
    pub(crate) fn logged_in(address: &str, id: u64, unique_id: &str) -> Self {
        let mut typist = Self::connect(address);
        typist.write(format!("{id}\n{unique_id}\n").as_bytes());
        typist.expect("id?");
        typist.expect("unique_id?");
        typist.expect("welcome");
        typist
    }

    /// Follows; returns once everything that is there has come, with it: `NAME VALUE`, `gone NAME`, and the cursor.
    #[track_caller]
    pub(crate) fn follow(&mut self, what: &str) -> (Vec<String>, String) {
        self.type_line(&format!("follow {what}"));
        self.expect("ok");
        self.values()
    }

    /// Everything up to the next `current`.
    #[track_caller]
    pub(crate) fn values(&mut self) -> (Vec<String>, String) {
        let mut values = Vec::new();
        loop {
            let line = self.read_line().expect("values come");
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            match words.as_slice() {
                ["current", cursor, _] => return (values, (*cursor).to_owned()),
                ["value", _, rest] => values.push((*rest).to_owned()),
                ["gone", _, name] => values.push(format!("gone {name}")),
                _ => panic!("{line:?} instead of a value"),
            }
        }
    }

    /// Reads to the end; all that came.
    pub(crate) fn rest(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.read_line()).collect()
    }

    /// Says that nothing more will be typed.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}
