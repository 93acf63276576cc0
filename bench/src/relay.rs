//! A wire that counts: what goes to an address goes through here.

use anyhow::{Context as _, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that passed, both ways together, TLS and all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed(Arc<AtomicU64>);

impl Passed {
    /// So far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Relays connections to `target` until the process ends; gives its own address and the count.
pub(crate) fn start(target: String) -> Result<(SocketAddr, Passed)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    let address = listener.local_addr()?;
    let passed = Passed::default();
    let count = passed.clone();
    std::thread::spawn(move || {
        for incoming in listener.incoming().flatten() {
            let Ok(outgoing) = TcpStream::connect(&target) else { continue };
            let ends = (incoming.try_clone(), outgoing.try_clone());
            let (Ok(back_to), Ok(back_from)) = ends else { continue };
            pump(incoming, outgoing, count.clone());
            pump(back_from, back_to, count.clone());
        }
    });
    Ok((address, passed))
}

fn pump(mut from: TcpStream, mut to: TcpStream, passed: Passed) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            passed.0.fetch_add(count as u64, Ordering::Relaxed);
            if count == 0 || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // An end that is gone already needs no goodbye.
        to.shutdown(Shutdown::Write).ok();
    });
}
