//! A cable that can be cut, or held: what comes in goes to another address, until it does not.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

/// The cable. What goes over it ends with the test's process.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    is_held: bool,
    /// Both ends of each connection that goes over it.
    ends: Vec<Weak<[TcpStream; 2]>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while it is held.
    fn pass(&self) {
        let mut state = self.lock();
        while state.is_held {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Cable {
    /// A cable to an address, of which this machine need not know anything yet.
    ///
    /// # Panics
    /// When the system gives no port.
    pub fn to(target: &str) -> Cable {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let (address, target) = (listener.local_addr().expect("it is bound"), target.to_owned());
        let shared = Arc::<Shared>::default();
        let within = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                within.pass();
                let mut state = within.lock();
                if state.is_cut {
                    continue;
                }
                // Whoever finds nobody there is cut at once.
                let Ok(far) = TcpStream::connect(&target) else { continue };
                near.set_nodelay(true).ok();
                far.set_nodelay(true).ok();
                let ends = Arc::new([near, far]);
                state.ends.retain(|ends| ends.strong_count() > 0);
                state.ends.push(Arc::downgrade(&ends));
                for from in [0, 1] {
                    let (ends, within) = (Arc::clone(&ends), Arc::clone(&within));
                    thread::spawn(move || {
                        carry(&ends[from], &ends[1 - from], &within).ok();
                        ends[1 - from].shutdown(Shutdown::Write).ok();
                    });
                }
            }
        });
        Cable { address, shared }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all that goes over it, and lets nothing more through. Both sides know at once.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.is_cut = true;
        for ends in state.ends.drain(..).filter_map(|ends| ends.upgrade()) {
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
    }

    /// Lets new connections through again.
    pub fn mend(&self) {
        self.shared.lock().is_cut = false;
    }

    /// Nothing goes on, in either direction, and neither side is told: what is sent waits.
    pub fn hold(&self) {
        self.shared.lock().is_held = true;
    }

    /// What waited goes on.
    pub fn release(&self) {
        self.shared.lock().is_held = false;
        self.shared.changed.notify_all();
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        shared.pass();
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_held_cable_lets_nothing_through_and_a_cut_one_ends_both_sides() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let cable = Cable::to(&target.local_addr().unwrap().to_string());
        let mut near = TcpStream::connect(cable.address()).unwrap();
        let (mut far, _) = target.accept().unwrap();
        near.write_all(b"1").unwrap();
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        cable.hold();
        near.write_all(b"2").unwrap();
        far.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(far.read(&mut byte).is_err(), "it is held");
        cable.release();
        far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        far.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"2");
        cable.cut();
        assert_eq!((far.read(&mut byte).unwrap_or(0), near.read(&mut byte).unwrap_or(0)), (0, 0));
        let mut refused = TcpStream::connect(cable.address()).unwrap();
        assert_eq!(refused.read(&mut byte).unwrap_or(0), 0);
        cable.mend();
        let _through = TcpStream::connect(cable.address()).unwrap();
        target.accept().unwrap();
    }
}
