//! Lines of text, by hand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use support::PATIENCE;

pub(crate) struct Text {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Text {
    pub(crate) fn connect(address: SocketAddr) -> Text {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut text = Text { stream, lines };
        text.hear("id?");
        text
    }

    fn say(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The rest of the next line, which begins with this.
    fn hear(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "cut instead of {word}");
            if line.starts_with('#') {
                continue;
            }
            let rest = line.trim_end().strip_prefix(word);
            return rest.unwrap_or_else(|| panic!("{line:?} instead of {word}")).trim().to_owned();
        }
    }

    /// Its unique ID, which is not confirmed.
    pub(crate) fn is_issued(&mut self, id: u64, invite: &str) -> String {
        self.say(&format!("{id} invite {invite}"));
        self.hear("issued")
    }

    /// Its unique ID.
    pub(crate) fn enrol(mut self, id: u64, invite: &str) -> String {
        let unique_id = self.is_issued(id, invite);
        self.say("");
        self.hear("welcome");
        unique_id
    }

    pub(crate) fn logged_in(mut self, id: u64, unique_id: &str) -> Text {
        self.say(&id.to_string());
        self.hear("unique_id?");
        self.say(unique_id);
        self.hear("welcome");
        self
    }

    pub(crate) fn lies(mut self, id: u64, unique_id: &str) {
        self.say(&id.to_string());
        self.hear("unique_id?");
        self.say(unique_id);
        self.hear("refused not_proven");
    }

    /// Says all of it at once, and hears that all of it is on disk.
    pub(crate) fn say_all(mut self, lines: &[String]) {
        let (mut stream, all) = (self.stream.try_clone().unwrap(), lines.join("\n") + "\n");
        let says = std::thread::spawn(move || stream.write_all(all.as_bytes()).unwrap());
        lines.iter().for_each(|_| drop(self.hear("ok")));
        says.join().unwrap();
    }
}
