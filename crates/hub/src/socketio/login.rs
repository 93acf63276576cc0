//! The login's dialogue over Socket.IO; what is decided is decided by [`Login`].
//!
//! What the connection's `auth` holds answers the first question each; what it does not hold is asked for by events.

use super::event::{Arg, Event};
use super::inbox::Incoming;
use super::talk::{IsGone, Talk};
use crate::counts::Via;
use crate::reception::at_the_desk;
use serde_json::Value as Json;
use socketioxide::AckError;
use socketioxide::ack::AckStream;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;
use wire::login::{Admitted, Login, Policy, Then};
use wire::message::{Code, Purpose, Refusal, ToClient, ToHub};

/// From the connection to being in: somebody may have to look for the unique ID.
const LOGIN_MAX: Duration = Duration::from_secs(60);
/// Patterns of `data` that a login names.
const PATTERNS_MAX: usize = 32;
/// An event without arguments; a unit would be one, `null`.
const NOTHING: [(); 0] = [];
/// Boards whose cursors a login brings.
const CURSORS_MAX: usize = 64;

/// What a client said of itself beside its id: with `auth`, or with its answer to `id?`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wishes {
    /// By board, where it was.
    pub(super) cursors: BTreeMap<String, String>,
    /// Which names of `data`; `None`: all.
    pub(super) follow: Option<Vec<String>>,
}

/// Why nobody is in.
pub(super) enum NotIn {
    Refused(Refusal),
    Gone(String),
}

impl From<IsGone> for NotIn {
    fn from(gone: IsGone) -> Self {
        NotIn::Gone(gone.0)
    }
}

/// What the hub waits for.
enum Asked {
    /// Nothing from the client: what it said is looked at later, as somebody guessed before.
    Nothing,
    Id,
    UniqueId,
    /// That the client holds this one; by acknowledging the event, or by saying it.
    Confirm(String, Pin<Box<AckStream<Json>>>),
}

/// Asks until somebody is in, or must go.
pub(super) async fn log_in(talk: &Talk, auth: Json) -> Result<(Admitted, Wishes), NotIn> {
    let hub = &talk.hub;
    let address = talk.track.address.ip();
    let policy = Policy { login_max: LOGIN_MAX, ..Policy::clone(&hub.policy()) };
    let mut login = Login::new(&address.to_string(), &policy, hub.now());
    let hello = ToHub::Hello {
        versions: (wire::PROTOCOL_VERSION, wire::PROTOCOL_VERSION),
        software: "a Socket.IO client".into(),
        purpose: Purpose::Login,
    };
    let mut step = at_the_desk(hub, address, Via::SocketIo, &mut login, Some(hello)).await;
    let mut said = Said::default();
    said.hear(&auth);
    let mut asked = Asked::Id;
    loop {
        let mut last = None;
        for message in std::mem::take(&mut step.say) {
            match message {
                ToClient::AskId => asked = Asked::Id,
                ToClient::AskUniqueId => asked = Asked::UniqueId,
                ToClient::Issued { unique_id } => {
                    let text = unique_id.reveal().to_owned();
                    asked = Asked::Confirm(text.clone(), talk.ask("unique_id", &text).await?);
                }
                ToClient::Refused(mut refusal) => {
                    refusal.text.push_str(&std::mem::take(&mut said.hint));
                    talk.refused(&refusal).await?;
                    last = Some(refusal);
                }
                _ => {}
            }
        }
        match step.then {
            Then::In(admitted) => return Ok((admitted, said.wishes)),
            Then::End | Then::Attach(_) => {
                let ended = || Refusal { code: Code::HubFailed, text: "the login ended".into(), retry_ms: Some(0) };
                return Err(NotIn::Refused(last.unwrap_or_else(ended)));
            }
            Then::Wait { .. } => {}
        }
        let answer = match (&mut asked, said.id.take(), said.unique_id.take()) {
            (Asked::Id, Some(id), unique_id) => {
                said.unique_id = unique_id;
                Some(id)
            }
            (Asked::UniqueId, _, Some(unique_id)) => Some(unique_id),
            (asked, ..) => {
                match asked {
                    Asked::Id => talk.say("id?", &NOTHING).await?,
                    Asked::UniqueId => talk.say("unique_id?", &NOTHING).await?,
                    Asked::Confirm(..) | Asked::Nothing => {}
                }
                wait(talk, asked, &mut said, hub.until(login.until())).await?
            }
        };
        if answer.is_some() {
            // Asked once: most programs answer each time, and an answer at the wrong time ends the login.
            asked = Asked::Nothing;
        }
        step = at_the_desk(hub, address, Via::SocketIo, &mut login, answer).await;
    }
}

/// Waits for the answer to what was asked; `None` when the time is over. What was not asked for is not heard.
async fn wait(talk: &Talk, asked: &mut Asked, said: &mut Said, within: Duration) -> Result<Option<ToHub>, NotIn> {
    let over = tokio::time::sleep(within);
    tokio::pin!(over);
    let mut stopping = talk.hub.stopping.subscribe();
    loop {
        let incoming = tokio::select! {
            incoming = talk.inbox.next() => incoming,
            confirmed = confirmed(asked) => match confirmed {
                true => return Ok(Some(ToHub::Confirm)),
                false => continue,
            },
            () = &mut over => return Ok(None),
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                return Err(NotIn::Refused(talk.hub.farewell.refusal()));
            }
        };
        let event = match incoming {
            Incoming::Event(event) => event,
            Incoming::Left(why) => return Err(NotIn::Gone(why)),
        };
        let answer = match (&mut *asked, event.name.as_str()) {
            (Asked::Id, "id") => {
                said.hear_id(&event);
                said.id.take()
            }
            (Asked::UniqueId, "unique_id") => {
                Some(ToHub::UniqueId { unique_id: event.text(0).unwrap_or_default().into() })
            }
            (Asked::UniqueId, "lost") => Some(ToHub::Lost),
            (Asked::Confirm(issued, _), "unique_id") => {
                (event.text(0) == Some(issued.as_str())).then_some(ToHub::Confirm)
            }
            _ => None,
        };
        match answer {
            Some(answer) => return Ok(Some(answer)),
            None => {
                let text = format!("{:?} is for clients that have logged in, or was not asked for now", event.name);
                talk.fail(event, &Refusal { code: Code::Protocol, text, retry_ms: None }).await?;
            }
        }
    }
}

/// Whether the client holds what was issued; never resolves where nothing was.
async fn confirmed(asked: &mut Asked) -> bool {
    let Asked::Confirm(_, ack) = asked else { return std::future::pending().await };
    match ack.as_mut().await {
        // Whatever it says with it, it acknowledged.
        Ok(_) | Err(AckError::Decode(_)) => true,
        Err(_) => {
            // Waited for no longer; its deadline is the login's.
            std::future::pending().await
        }
    }
}

/// What a client told unasked, each used once.
#[derive(Default)]
struct Said {
    id: Option<ToHub>,
    unique_id: Option<ToHub>,
    wishes: Wishes,
    /// What more a refusal of the id says.
    hint: String,
}

impl Said {
    /// The answer `id`: an integer, or an object with it.
    fn hear_id(&mut self, event: &Event) {
        match event.args.first() {
            Some(Arg::Json(object @ Json::Object(_))) => {
                self.hear(object);
                if self.id.is_none() {
                    self.id = Some(self.claim(&Json::Null, &Json::Null));
                }
            }
            Some(Arg::Json(id)) => self.id = Some(self.claim(id, &Json::Null)),
            Some(Arg::Bytes(_)) | None => self.id = Some(self.claim(&Json::Null, &Json::Null)),
        }
    }

    fn hear(&mut self, object: &Json) {
        if let Some(id) = object.get("id") {
            self.id = Some(self.claim(id, object));
        }
        if let Some(unique_id) = object.get("unique_id").and_then(Json::as_str) {
            self.unique_id = Some(ToHub::UniqueId { unique_id: unique_id.into() });
        }
        if let Some(Json::Object(cursors)) = object.get("cursors") {
            let texts = cursors.iter().filter_map(|(board, cursor)| Some((board.clone(), cursor.as_str()?.to_owned())));
            self.wishes.cursors = texts.take(CURSORS_MAX).collect();
        }
        if let Some(Json::Array(patterns)) = object.get("follow") {
            let texts = patterns.iter().filter_map(Json::as_str).map(str::to_owned);
            self.wishes.follow = Some(texts.take(PATTERNS_MAX).collect());
        }
    }

    /// An id as JSON, with what goes along.
    fn claim(&mut self, id: &Json, object: &Json) -> ToHub {
        self.hint = match id {
            Json::String(_) => " (this was a text: send the number without quotes)".to_owned(),
            Json::Number(_) => String::new(),
            other => format!(" (this was {other}: send a JSON number)"),
        };
        self.hint.truncate(200);
        let text = |key: &str| object.get(key).and_then(Json::as_str);
        let name = text("name").unwrap_or_default().chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
        // In quotes and all, so that a text is never taken for a number.
        ToHub::Id { id: id.to_string(), invite: text("invite").map(Into::into), name }
    }
}

/// Letters of a client's name; with four bytes each they are as many as a name may have.
const NAME_CHARS_MAX: usize = wire::limits::NAME_BYTES_MAX / 4;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use wire::id::ClientId;

    fn id_of(said: &Said) -> &str {
        match &said.id {
            Some(ToHub::Id { id, .. }) => id,
            _ => panic!("no id"),
        }
    }

    #[test]
    fn m3_2_only_a_json_integer_is_an_id() {
        for (json, good) in [
            (json!(7), true),
            (json!("7"), false),
            (json!(7.5), false),
            (json!(7.0), false),
            (json!(true), false),
            (json!(null), false),
            (json!([7]), false),
            (json!(-7), false),
            (json!(0), false),
            (json!(1u64 << 53), false),
        ] {
            let mut said = Said::default();
            said.hear(&json!({ "id": json }));
            assert_eq!(ClientId::parse(id_of(&said)).is_ok(), good, "{json}");
        }
    }

    #[test]
    fn what_auth_holds_is_heard_and_what_is_wrong_in_it_is_left() {
        let mut said = Said::default();
        said.hear(&json!({
            "id": 7, "name": "lab\n7", "invite": "x", "unique_id": "ls-7-A",
            "cursors": {"data": "1-a", "fleet": 7}, "follow": ["a*", 7],
        }));
        assert!(matches!(&said.id, Some(ToHub::Id { name, invite: Some(_), .. }) if name == "lab7"));
        assert!(said.unique_id.is_some());
        assert_eq!(said.wishes.cursors, BTreeMap::from([("data".to_owned(), "1-a".to_owned())]));
        assert_eq!(said.wishes.follow, Some(vec!["a*".to_owned()]));
        let mut nothing = Said::default();
        nothing.hear(&json!("who?"));
        assert!(nothing.id.is_none() && nothing.wishes == Wishes::default());
    }
}
