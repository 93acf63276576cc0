//! From bytes to lines: ends of lines as every system and telnet writes them, telnet's negotiation told apart and declined,
//! and no line longer than is allowed, whoever sends it.
//!
//! Free of I/O: bytes go in, pieces come out, in their order.

use bytes::{Buf, BytesMut};

/// So many requests of a telnet program are declined in words of its own; beyond that in silence.
const DECLINED_MAX: u32 = 64;

// Telnet (RFC 854): what follows its one escape byte.
const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A line, without its end; any bytes.
    Line(Vec<u8>),
    /// A line that was longer than allowed; nothing was kept of it.
    TooLong,
    /// What a telnet program is to be answered: that nothing is changed for it.
    Decline([u8; 3]),
}

/// One connection's bytes on their way to lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    state: State,
    too_long: bool,
    declined: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Text,
    /// After a carriage return.
    Return,
    /// After telnet's escape byte.
    Escape,
    /// After telnet's WILL, WONT, DO or DONT.
    Option(u8),
    /// In a telnet subnegotiation.
    Inside,
    /// In one, after the escape byte.
    InsideEscape,
}

impl Lines {
    /// The next piece in `bytes`, which loses what was looked at; `None` when all of it was.
    pub(crate) fn next(&mut self, bytes: &mut BytesMut, line_bytes_max: usize) -> Option<Piece> {
        while !bytes.is_empty() {
            let byte = bytes.get_u8();
            if let Some(piece) = self.take(byte, line_bytes_max) {
                return Some(piece);
            }
        }
        None
    }

    /// Whether a line has begun that did not end yet.
    pub(crate) fn is_inside(&self) -> bool {
        !self.line.is_empty() || self.too_long
    }

    /// Whether that line is longer than allowed already.
    pub(crate) fn is_too_long(&self) -> bool {
        self.too_long
    }

    fn take(&mut self, byte: u8, line_bytes_max: usize) -> Option<Piece> {
        let state = std::mem::take(&mut self.state);
        match (state, byte) {
            (State::Text | State::Return, b'\n') | (State::Return, 0) => return Some(self.end()),
            (State::Return, _) => {
                // Alone it ends no line.
                self.push(b'\r', line_bytes_max);
                return self.take(byte, line_bytes_max);
            }
            (State::Text, b'\r') => self.state = State::Return,
            (State::Text, IAC) => self.state = State::Escape,
            (State::Text, byte) | (State::Escape, byte @ IAC) => self.push(byte, line_bytes_max),
            (State::Escape, verb @ (WILL | WONT | DO | DONT)) => self.state = State::Option(verb),
            (State::Escape, SB) | (State::InsideEscape, IAC) => self.state = State::Inside,
            (State::Option(WILL), option) => return self.decline(DONT, option),
            (State::Option(DO), option) => return self.decline(WONT, option),
            (State::Inside, IAC) => self.state = State::InsideEscape,
            (State::Inside, _) => self.state = State::Inside,
            (State::InsideEscape, SE) | (State::Option(_) | State::Escape, _) => {}
            (State::InsideEscape, _) => self.state = State::Inside,
        }
        None
    }

    fn push(&mut self, byte: u8, line_bytes_max: usize) {
        if self.too_long {
            return;
        }
        if self.line.len() >= line_bytes_max {
            (self.too_long, self.line) = (true, Vec::new());
            return;
        }
        self.line.push(byte);
    }

    fn end(&mut self) -> Piece {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) { Piece::TooLong } else { Piece::Line(line) }
    }

    fn decline(&mut self, verb: u8, option: u8) -> Option<Piece> {
        self.declined = self.declined.saturating_add(1);
        (self.declined <= DECLINED_MAX).then_some(Piece::Decline([IAC, verb, option]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(chunks: &[&[u8]], max: usize) -> (Vec<Piece>, Lines) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut bytes = BytesMut::from(*chunk);
            while let Some(piece) = lines.next(&mut bytes, max) {
                found.push(piece);
            }
        }
        (found, lines)
    }

    fn line(text: &str) -> Piece {
        Piece::Line(text.as_bytes().to_vec())
    }

    #[test]
    fn a_line_ends_as_any_system_ends_it() {
        let (found, lines) = pieces(&[b"a\nb\r\nc\r\0d\re\n\n\r\nhalf"], 9);
        assert_eq!(found, [line("a"), line("b"), line("c"), line("d\re"), line(""), line("")]);
        assert!(lines.is_inside() && !lines.is_too_long());
    }

    #[test]
    fn a_line_at_the_limit_is_one_and_a_byte_more_is_told() {
        let (found, _) = pieces(&[b"abc\nabcd\nabcdefgh\nab\n"], 3);
        assert_eq!(found, [line("abc"), Piece::TooLong, Piece::TooLong, line("ab")]);
        let (found, lines) = pieces(&[b"abcd"], 3);
        assert!(found.is_empty() && lines.is_too_long() && lines.is_inside() && lines.line.is_empty());
    }

    #[test]
    fn telnet_is_declined_and_leaves_no_trace_in_the_line() {
        let sent = b"\xff\xfd\x03g\xff\xfb\x18e\xff\xfe\x01\xff\xfc\x01t\xff\xfa\x18x\xff\xffy\n\xff\xf0 \xff\xf4a\xff\xff\r\n";
        let (found, _) = pieces(&[sent], 99);
        let get = Piece::Line(b"get a\xff".to_vec());
        assert_eq!(found, [Piece::Decline([IAC, WONT, 3]), Piece::Decline([IAC, DONT, 24]), get]);
        let (found, _) = pieces(&[&b"\xff\xfd\x03".repeat(1000)], 9);
        assert_eq!(found.len(), usize::try_from(DECLINED_MAX).unwrap(), "nobody is answered without end");
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_the_pieces_are_the_same(bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(b"a\r\n\0".to_vec()), prop::sample::select(vec![IAC, DO, WILL, SB, SE]), any::<u8>()], 0..64),
            size in 1usize..7)
        {
            let whole = pieces(&[&bytes], 5).0;
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(&pieces(&chunks, 5).0, &whole);
            for piece in &whole {
                if let Piece::Line(line) = piece {
                    prop_assert!(line.len() <= 5 && !line.contains(&b'\n'));
                }
            }
        }
    }
}
