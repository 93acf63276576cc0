//! The login in words: its questions as lines, and lines as its answers. Decides nothing: that is
//! [`wire::login::Login`]'s.

use super::refusal_line;
use wire::message::{Code, Purpose, Refusal, ToClient, ToHub};
use wire::unique_id::UniqueId;

/// What is expected of the next line.
#[derive(Debug)]
pub(super) struct Dialogue {
    question: Question,
    /// As typed, for the question that follows.
    id: String,
    /// Nothing was typed yet.
    first: bool,
}

#[derive(Debug)]
enum Question {
    Id,
    UniqueId,
    /// Whether what was issued is kept.
    Kept(String),
}

/// How a request line ends that a browser sends, be it by mistake or because a page made it.
const HTTP: [&[u8]; 2] = [b"HTTP/1.1", b"HTTP/1.0"];
/// The first byte of a TLS connection.
const TLS: u8 = 0x16;

impl Dialogue {
    /// The dialogue, and what opens the login for it.
    pub(super) fn begin() -> (Dialogue, ToHub) {
        let hello = ToHub::Hello {
            versions: (wire::PROTOCOL_VERSION, wire::PROTOCOL_VERSION),
            software: "text".to_owned(),
            purpose: Purpose::Login,
        };
        (Dialogue { question: Question::Id, id: String::new(), first: true }, hello)
    }

    /// Appends what the hub says, as lines.
    pub(super) fn say(&mut self, message: &ToClient, out: &mut String) {
        match message {
            ToClient::Hello { software, hub, .. } => {
                out.push_str(&format!("# {software}, hub {hub}. One line asks, one line answers.\n"));
            }
            ToClient::AskId => {
                out.push_str("id? an integer, such as 7\n");
                self.question = Question::Id;
            }
            ToClient::AskUniqueId => {
                out.push_str(&format!("unique_id? the one that was issued to {0}; lost if it never arrived; a new id may need an invite, as in {0} invite CODE\n",
                    self.id));
                self.question = Question::UniqueId;
            }
            ToClient::Issued { unique_id } => {
                let unique_id = unique_id.reveal();
                out.push_str(&format!("issued {unique_id}\n"));
                out.push_str("# Keep it: you are asked for it at every later login. Then press Enter.\n");
                self.question = Question::Kept(unique_id.to_owned());
            }
            ToClient::Refused(refusal) => out.push_str(&refused(refusal)),
            // Nothing else is said in a login.
            _ => tracing::error!("a login said something that there is no line for"),
        }
    }

    /// What a line answers.
    ///
    /// # Errors
    /// When who typed it does not mean this hub; the connection is to end with the refusal.
    pub(super) fn hear(&mut self, line: &[u8]) -> Result<ToHub, Refusal> {
        let first = std::mem::take(&mut self.first);
        if first && line.first() == Some(&TLS) {
            return Err(foreign("this port speaks plain text: connect without TLS, or use the native port"));
        }
        // A page in a browser could otherwise speak to a hub on this machine, in the body of a request.
        let asked = !matches!(self.question, Question::Kept(_));
        if asked && HTTP.iter().any(|http| line.trim_ascii_end().ends_with(http)) {
            return Err(foreign("this port speaks text lines, not HTTP: the hub serves that where --http says"));
        }
        let text = String::from_utf8_lossy(line);
        let text = text.trim_matches(super::quote::BLANKS);
        Ok(match &self.question {
            Question::Id => {
                let (id, invite) = claim(text);
                self.id = id.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
                ToHub::Id { id: id.to_owned(), invite: invite.map(Into::into), name: String::new() }
            }
            Question::UniqueId if text.eq_ignore_ascii_case("lost") => ToHub::Lost,
            Question::UniqueId => ToHub::UniqueId { unique_id: text.into() },
            // Who answers with another one was known here once, and is not any more; it will not keep the new one.
            Question::Kept(issued) if is_unique_id(text) && UniqueId::parse(text) != UniqueId::parse(issued) => {
                let text = "this hub does not know that unique ID: it has just issued another, which is not confirmed; \
                            connect again, answer lost, and keep what is issued then, or use another id";
                return Err(Refusal { code: Code::NotProven, text: text.to_owned(), retry_ms: None });
            }
            Question::Kept(_) => ToHub::Confirm,
        })
    }
}

/// Whether a line that confirmed asks for nothing else: an empty one, or the unique ID typed back.
pub(super) fn is_blank(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line);
    text.trim().is_empty() || is_unique_id(text.trim())
}

/// Whether a text means to be a unique ID, right or wrong.
fn is_unique_id(text: &str) -> bool {
    text.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case("ls-"))
}

/// The line that tells a refusal.
pub(super) fn refused(refusal: &Refusal) -> String {
    refusal_line("refused", refusal)
}

/// The ID, and an invite behind it: `7 invite CODE`, or the join link instead of the code.
fn claim(text: &str) -> (&str, Option<&str>) {
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(id), Some(word), Some(invite), None) if word.eq_ignore_ascii_case("invite") => (id, Some(invite)),
        _ => (text, None),
    }
}

fn foreign(text: &str) -> Refusal {
    Refusal { code: Code::Protocol, text: text.to_owned(), retry_ms: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::id::ClientId;
    use wire::link::{Fingerprint, InviteCode, JoinLink};

    fn unique_id(random: u8) -> String {
        UniqueId::from_random(ClientId::new(7).unwrap(), [random; 26]).reveal()
    }

    fn after(message: &ToClient) -> (Dialogue, String) {
        let (mut dialogue, _) = Dialogue::begin();
        let mut out = String::new();
        dialogue.hear(b"7").unwrap();
        dialogue.say(message, &mut out);
        (dialogue, out)
    }

    #[test]
    fn an_invite_goes_with_the_id_as_a_code_and_as_a_link() {
        let code = InviteCode::from_random([9; 26]);
        let link = JoinLink::new("hub", 7117, Fingerprint::of(b"key"), Some(code.clone())).unwrap().reveal();
        let code = code.reveal();
        for invite in [&code, &link] {
            let said = format!("auto invite {invite}");
            let (id, found) = claim(&said);
            assert_eq!(
                (id, found.and_then(InviteCode::within).map(|code| code.reveal())),
                ("auto", Some(code.clone()))
            );
        }
        for whole in ["7", "7 8", "7 8 9", "7 invite", "7 invite a b", ""] {
            assert_eq!(claim(whole), (whole, None));
        }
    }

    #[test]
    fn the_next_line_confirms_unless_it_is_another_unique_id() {
        let issued = ToClient::Issued { unique_id: unique_id(1).into() };
        for line in ["", "ok", "put x 1", &unique_id(1)] {
            assert_eq!(after(&issued).0.hear(line.as_bytes()), Ok(ToHub::Confirm), "{line}");
        }
        for another in [&unique_id(2), "LS-7-mistyped"] {
            assert_eq!(after(&issued).0.hear(another.as_bytes()).unwrap_err().code, Code::NotProven);
        }
        assert!(is_blank(b" ") && is_blank(unique_id(1).as_bytes()) && !is_blank(b"put x 1"));
    }

    #[test]
    fn whoever_speaks_another_protocol_is_told_so_and_ends() {
        for line in [&b"GET / HTTP/1.1"[..], b"POST /x HTTP/1.0 ", b"\x16\x03\x01\x02\x00"] {
            let (mut dialogue, _) = Dialogue::begin();
            assert_eq!(dialogue.hear(line).unwrap_err().code, Code::Protocol);
        }
        // Also later: what a request says may come behind what looks like an answer.
        assert_eq!(after(&ToClient::AskUniqueId).0.hear(b"GET / HTTP/1.1").unwrap_err().code, Code::Protocol);
    }

    #[test]
    fn what_is_asked_is_a_line_that_begins_with_what_it_is() {
        let refusal = Refusal { code: Code::BadId, text: "no".into(), retry_ms: None };
        for (message, begin) in [
            (ToClient::AskId, "id? "),
            (ToClient::AskUniqueId, "unique_id? the one that was issued to 7"),
            (ToClient::Issued { unique_id: unique_id(1).into() }, "issued ls-7-"),
            (ToClient::Refused(refusal), "refused bad_id no\n"),
        ] {
            let (_, text) = after(&message);
            assert!(text.starts_with(begin) && text.ends_with('\n'), "{text}");
        }
    }
}
