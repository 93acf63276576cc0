//! A connection that can be cut: what comes in goes to another address, until it does not.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub(super) struct Cable {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    ends: Vec<TcpStream>,
}

impl Cable {
    pub(super) fn to(target: &str) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (listener.local_addr().unwrap(), target.to_owned());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        thread::spawn(move || {
            for near in listener.incoming() {
                let mut state = shared.lock().unwrap();
                if let (Ok(near), Ok(far), false) = (near, TcpStream::connect(&target), state.is_cut) {
                    for (from, to) in [(&near, &far), (&far, &near)] {
                        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                        thread::spawn(move || {
                            io::copy(&mut from, &mut to).ok();
                            to.shutdown(Shutdown::Write).ok();
                        });
                    }
                    state.ends.extend([near, far]);
                }
            }
        });
        Cable { address, state }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all that goes over it, and lets nothing more through.
    pub(super) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = true;
        for end in state.ends.drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
    }

    pub(super) fn mend(&self) {
        self.state.lock().unwrap().is_cut = false;
    }
}
