//! Long polling: a request that waits for what is new, again and again, on a thread of its own.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::lapse;

use super::http::version;
use super::program::Told;
use crate::web::{Reply, Web};

pub(super) struct Poll {
    shared: Arc<Shared>,
    read: usize,
}

#[derive(Default)]
struct Shared {
    told: Mutex<Vec<Told>>,
    still: AtomicBool,
    over: AtomicBool,
    /// The request that waits.
    asks: Mutex<Option<TcpStream>>,
}

impl Poll {
    /// Follows all values, from a cursor on if there is one.
    pub(super) fn start(web: Web, cursor: Option<String>) -> Poll {
        let shared = Arc::<Shared>::default();
        let within = Arc::clone(&shared);
        thread::spawn(move || {
            within.follow(&web, cursor);
            within.told.lock().unwrap().push(Told::Cut);
        });
        Poll { shared, read: 0 }
    }

    /// What it was told since it was last asked.
    pub(super) fn told(&mut self) -> Vec<Told> {
        let told = self.shared.told.lock().unwrap()[self.read..].to_vec();
        self.read += told.len();
        told
    }

    pub(super) fn stand_still(&self, still: bool) {
        self.shared.still.store(still, Ordering::Release);
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(asks) = &*self.shared.asks.lock().unwrap() {
            asks.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    /// Until it is cut, or nobody wants it any more.
    fn follow(&self, web: &Web, mut cursor: Option<String>) {
        loop {
            while self.still.load(Ordering::Acquire) && !self.over.load(Ordering::Acquire) {
                lapse(Duration::from_millis(5), "it stands still until it is told to go on");
            }
            let target =
                cursor.as_ref().map_or("/api/values".to_owned(), |at| format!("/api/values?since={at}&wait=20"));
            let asks = web.ask("GET", &target, &[], b"");
            *self.asks.lock().unwrap() = asks.try_clone().ok();
            if self.over.load(Ordering::Acquire) {
                return;
            }
            let Some(reply) = Reply::try_read(asks).filter(|reply| reply.status == 200) else { return };
            let Ok(page) = serde_json::from_slice::<Value>(&reply.body) else { return };
            let anew = cursor.is_none() || page["reset"] == true;
            let Some(next) = page["next"].as_str() else { return };
            cursor = Some(next.to_owned());
            let mut told = if anew { vec![Told::Reset] } else { Vec::new() };
            for value in page["values"].as_array().into_iter().flatten() {
                let name = value["name"].as_str().expect("names are texts here").to_owned();
                told.extend(version(value));
                told.push(match value["value"].as_str() {
                    Some(text) => Told::Value(name, text.to_owned()),
                    None => Told::Gone(name),
                });
            }
            told.extend((page["current"] == true).then(|| Told::Current(next.to_owned())));
            self.told.lock().unwrap().extend(told);
        }
    }
}
