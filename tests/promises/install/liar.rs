//! Somebody between a machine and its hub, who answers in the hub's place.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// What is answered to who asks for the script, and for the program; where there is nothing, that it is not there.
pub(super) struct Lie {
    pub(super) script: Option<Vec<u8>>,
    pub(super) program: Option<Vec<u8>>,
}

/// It answers for as long as the test runs.
pub(super) struct Liar(SocketAddr);

impl Liar {
    pub(super) fn new(lie: Lie) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lie = Arc::new(lie);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lie = Arc::clone(&lie);
                // Whoever does not like what it hears hangs up.
                thread::spawn(move || answer(&lie, stream).ok());
            }
        });
        Liar(address)
    }

    /// In the place of the hub's.
    pub(super) fn base(&self) -> String {
        format!("http://{}", self.0)
    }
}

fn answer(lie: &Lie, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let body = if first.contains("install.sh ") { &lie.script } else { &lie.program };
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.as_deref().unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    stream.write_all(body)
}
