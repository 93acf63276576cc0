//! The client's side of a login: what to answer to each message of the hub. Free of I/O and of clocks.
//!
//! A newly issued unique ID is saved before it is confirmed. When the connection breaks between the two, the saved one is
//! right all the same the next time; when it breaks before, the next login declares it lost.

use crate::id::ClientId;
use crate::link::InviteCode;
use crate::login::AUTO;
use crate::message::{Code, Purpose, Refusal, ToClient, ToHub, Welcome};
use crate::unique_id::UniqueId;
use crate::{PROTOCOL_VERSION, PROTOCOL_VERSION_MIN};

/// Who a client says to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id; `None` asks for the next free one.
    pub id: Option<ClientId>,
    /// Its saved unique ID.
    pub unique_id: Option<UniqueId>,
    /// The invite it was given. Presenting one that is spent does no harm.
    pub invite: Option<InviteCode>,
    /// What people call this machine.
    pub name: String,
    /// Program and version.
    pub software: String,
}

/// What a client does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Send this.
    Say(ToHub),
    /// Save this unique ID so that it survives a power cut, and only then send [`ToHub::Confirm`]. If it cannot be saved,
    /// close the connection: the next login declares it lost.
    SaveThenConfirm(UniqueId),
    /// Wait for the next message.
    Wait,
    /// Logged in.
    In(Welcome),
    /// Not let in; the connection is of no more use. [`Refusal::retry_ms`] says whether trying again is worth it.
    Refused(Refusal),
}

/// One connection's login.
#[derive(Debug)]
pub struct ClientLogin {
    identity: Identity,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SaidHello,
    Greeted,
    SaidId,
    Answered,
    Confirming,
    Done,
}

impl ClientLogin {
    /// A login as `identity`, and what to send first.
    pub fn new(identity: Identity) -> (ClientLogin, ToHub) {
        let hello = ToHub::Hello {
            versions: (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION),
            software: identity.software.clone(),
            purpose: Purpose::Login,
        };
        (ClientLogin { identity, state: State::SaidHello }, hello)
    }

    /// A message came.
    pub fn on(&mut self, message: ToClient) -> Act {
        match (self.state, message) {
            (State::SaidHello, ToClient::Hello { version, software, .. }) => {
                if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&version) {
                    return self.fail(
                        Code::Version,
                        format!("the hub ({software}) chose protocol {version}: install its version"),
                    );
                }
                self.state = State::Greeted;
                Act::Wait
            }
            (State::Greeted, ToClient::AskId) => {
                self.state = State::SaidId;
                Act::Say(ToHub::Id {
                    id: self.identity.id.map_or(AUTO.to_owned(), |id| id.to_string()),
                    invite: self.identity.invite.as_ref().map(|code| code.reveal().into()),
                    name: self.identity.name.clone(),
                })
            }
            (State::SaidId, ToClient::AskUniqueId) => {
                self.state = State::Answered;
                Act::Say(match &self.identity.unique_id {
                    Some(unique_id) => ToHub::UniqueId { unique_id: unique_id.reveal().into() },
                    None => ToHub::Lost,
                })
            }
            (State::SaidId | State::Answered, ToClient::Issued { unique_id }) => {
                let expected = self.identity.id;
                match UniqueId::parse(unique_id.reveal()) {
                    Ok(unique_id) if expected.is_none_or(|id| id == unique_id.id()) => {
                        self.identity.id = Some(unique_id.id());
                        self.identity.unique_id = Some(unique_id.clone());
                        self.state = State::Confirming;
                        Act::SaveThenConfirm(unique_id)
                    }
                    Ok(_) | Err(_) => {
                        self.fail(Code::Protocol, "the hub issued a unique ID that is none of this id".to_owned())
                    }
                }
            }
            (State::Answered | State::Confirming, ToClient::Welcome(welcome)) => {
                if self.identity.id.is_none_or(|id| id.get() != welcome.id) {
                    return self.fail(Code::Protocol, "the hub let in another id than was proven".to_owned());
                }
                self.state = State::Done;
                Act::In(welcome)
            }
            // What could be said better cannot be said better by a program: one refusal is enough, even if a question follows.
            (_, ToClient::Refused(refusal) | ToClient::Bye(refusal)) => {
                self.state = State::Done;
                Act::Refused(refusal)
            }
            _ => self.fail(
                Code::Protocol,
                "the hub said something that does not belong to a login: is it a hub?".to_owned(),
            ),
        }
    }

    fn fail(&mut self, code: Code, text: String) -> Act {
        self.state = State::Done;
        Act::Refused(Refusal { code, text, retry_ms: None })
    }
}
