//! A machine that follows all values, and knows what it holds.

use crate::house::House;
use agent::client::{Client, ClientError, Follow, Target, Update};
use agent::dial::Trust;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use support::PATIENCE;
use wire::codec::decode_stored;
use wire::id::ClientId;
use wire::link::InviteCode;

/// Values by name.
pub(crate) type Values = BTreeMap<String, String>;

pub(crate) struct Machine {
    pub(crate) id: u64,
    follow: Follow,
    pub(crate) held: Values,
}

fn key_dir(house: &House, id: u64) -> PathBuf {
    house.place.join(format!("machine-{id}"))
}

/// Logs in as `id`, with the key it has, or for an invite.
pub(crate) async fn log_in(house: &House, id: u64, invite: Option<InviteCode>) -> Result<Client, ClientError> {
    let up = house.up();
    let target = Target::Hub {
        address: up.address.to_string(),
        trust: Trust::Known(up.fingerprint),
        id: Some(ClientId::new(id).unwrap()),
        invite,
        name: format!("machine {id}"),
        key_dir: key_dir(house, id),
    };
    Client::connect(target, "year").await
}

/// It has no key any more.
pub(crate) fn forget_key(house: &House, id: u64) {
    std::fs::remove_dir_all(key_dir(house, id)).unwrap();
}

impl Machine {
    /// Comes for the first time, or for a new unique ID.
    pub(crate) async fn enrolled(house: &House, id: u64, invite: InviteCode) -> Machine {
        let client = log_in(house, id, Some(invite)).await.unwrap();
        let follow = client.follow("data", "*").await.unwrap();
        Machine { id, follow, held: Values::new() }
    }

    /// Reads on, coming back where it is cut, until it has all up to this value.
    pub(crate) async fn catch_up(&mut self, house: &House, name: &str, value: &str) {
        let id = self.id;
        let caught_up = tokio::time::timeout(PATIENCE, async {
            while self.look(house).await || self.held.get(name).is_none_or(|held| held != value) {}
        });
        caught_up.await.unwrap_or_else(|_| panic!("machine {id} did not catch up"));
    }

    /// Takes the next that comes; whether there is more.
    async fn look(&mut self, house: &House) -> bool {
        match self.follow.next().await {
            Ok(Update::Changed { name, value, .. }) => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                match value {
                    Some(value) => {
                        self.held.insert(text(&name), text(&decode_stored(&value).unwrap().content.bytes));
                    }
                    None => drop(self.held.remove(&text(&name))),
                }
                true
            }
            Ok(Update::Current { .. }) => false,
            Err(_) => {
                match log_in(house, self.id, None).await {
                    Ok(client) => self.follow.resume(client).await.unwrap(),
                    // The pause between two tries; whoever looks has a deadline.
                    Err(error) if error.is_passing() => tokio::time::sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("machine {} is not let in: {error}", self.id),
                }
                true
            }
        }
    }

    /// It is told that it is revoked, and is not let in any more.
    pub(crate) async fn finds_itself_revoked(mut self, house: &House) {
        let told = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Err(error) = self.follow.next().await {
                    return error;
                }
            }
        });
        drop(told.await.expect("it is cut"));
        let refused = log_in(house, self.id, None).await.err().expect("it is not let in");
        assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
    }
}
