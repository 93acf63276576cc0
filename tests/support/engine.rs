//! Engine.IO by hand: frames of WebSocket and requests of long polling as bytes, so that a test may also send what no
//! library would, and thousands of clients cost little.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Codes of frames.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
/// The last frame of a message.
const FIN: u8 = 0x80;
/// The mask of every frame: it hides nothing from anybody.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// What came over WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Engine.IO's packets are texts,
    Text(String),
    /// its binary messages bytes.
    Binary(Bytes),
}

/// A WebSocket connection.
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    read: BytesMut,
}

impl WebSocket {
    /// Asks `target` (path and query) for WebSocket, from an address of this machine's own choice or from `from`.
    ///
    /// # Errors
    /// When it cannot connect, or is answered anything but 101; the error begins with the status then.
    pub async fn connect(from: Option<IpAddr>, address: SocketAddr, target: &str) -> Result<WebSocket> {
        let mut stream = connect(from, address).await?;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut read = BytesMut::new();
        let (status, head_bytes) = head(&mut stream, &mut read).await?;
        ensure!(status == 101, "{status} instead of a WebSocket at {target}");
        read.advance(head_bytes);
        Ok(WebSocket { stream, read })
    }

    /// Sends a text.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.send_frame(FIN | TEXT, text.as_bytes()).await
    }

    /// Sends several texts by one write.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_all(&mut self, texts: &[String]) -> Result<()> {
        let mut out = Vec::new();
        texts.iter().for_each(|text| encode(&mut out, FIN | TEXT, text.as_bytes()));
        Ok(self.stream.write_all(&out).await?)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.send_frame(FIN | BINARY, bytes).await
    }

    /// Sends a frame with this first byte, whatever it may mean.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let mut out = Vec::with_capacity(payload.len() + 14);
        encode(&mut out, first, payload);
        Ok(self.stream.write_all(&out).await?)
    }

    /// The next text or bytes; `None` once the connection has ended, however it did.
    ///
    /// # Errors
    /// On what is no frame of a server.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        let mut message = Vec::new();
        let mut kind = TEXT;
        loop {
            let Some((first, payload)) = self.frame().await? else { return Ok(None) };
            match first & 0x0f {
                CLOSE => return Ok(None),
                PING => self.send_frame(FIN | 10, &payload).await?,
                code @ (CONTINUATION | TEXT | BINARY) => {
                    if code != CONTINUATION {
                        kind = code;
                    }
                    if first & FIN != 0 && message.is_empty() && kind == BINARY {
                        return Ok(Some(Frame::Binary(payload)));
                    }
                    message.extend_from_slice(&payload);
                    if first & FIN != 0 {
                        return Ok(Some(match kind {
                            TEXT => Frame::Text(String::from_utf8(message).context("a text that is none")?),
                            _ => Frame::Binary(message.into()),
                        }));
                    }
                }
                _ => {}
            }
        }
    }

    /// Resolves when there may be something; it may be given up.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn readable(&self) -> Result<()> {
        if self.read.is_empty() {
            self.stream.readable().await?;
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Option<(u8, Bytes)>> {
        loop {
            if let Some((header_bytes, payload_bytes)) = frame_size(&self.read)?
                && self.read.len() >= header_bytes + payload_bytes
            {
                let first = self.read[0];
                self.read.advance(header_bytes);
                return Ok(Some((first, self.read.split_to(payload_bytes).freeze())));
            }
            if self.read.is_empty() {
                // So that a client that waits holds no buffer.
                self.read = BytesMut::new();
                if self.stream.readable().await.is_err() {
                    return Ok(None);
                }
            }
            self.read.reserve(4096);
            match self.stream.read_buf(&mut self.read).await {
                // A reset is an end as well.
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

/// Sizes of the header and of the payload of the frame that `read` begins with; `None`: not all of the header is here.
fn frame_size(read: &[u8]) -> Result<Option<(usize, usize)>> {
    let [_, second, rest @ ..] = read else { return Ok(None) };
    ensure!(second & 0x80 == 0, "a server masks nothing");
    Ok(match (second & 0x7f, rest) {
        (126, [a, b, ..]) => Some((4, usize::from(u16::from_be_bytes([*a, *b])))),
        (127, [bytes @ .., _]) if bytes.len() >= 7 => {
            let length = u64::from_be_bytes(rest[..8].try_into().context("eight bytes")?);
            Some((10, usize::try_from(length)?))
        }
        (126 | 127, _) => None,
        (length, _) => Some((2, usize::from(length))),
    })
}

fn encode(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | u8::try_from(length).unwrap_or_default()),
        length => match u16::try_from(length) {
            Ok(length) => {
                out.push(0x80 | 126);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(0x80 | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A connection of HTTP that stays, for long polling.
#[derive(Debug)]
pub struct Polling {
    address: SocketAddr,
    stream: TcpStream,
    read: BytesMut,
}

impl Polling {
    /// Connects.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn connect(address: SocketAddr) -> Result<Polling> {
        Ok(Polling { address, stream: connect(None, address).await?, read: BytesMut::new() })
    }

    /// Asks for `target`; status and body.
    ///
    /// # Errors
    /// When the connection ends before the answer.
    pub async fn get(&mut self, target: &str) -> Result<(u16, String)> {
        self.request("GET", target, b"").await
    }

    /// Sends a request with a body; status and body of the answer.
    ///
    /// # Errors
    /// When the connection ends before the answer.
    pub async fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Result<(u16, String)> {
        self.ask(method, target, body).await?;
        self.answer().await
    }

    /// Sends a request without waiting for its answer, which is [`Polling::answer`]'s.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Result<()> {
        let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{length}\r\n", self.address);
        self.stream.write_all(&[request.as_bytes(), body].concat()).await?;
        Ok(())
    }

    /// The next answer.
    ///
    /// # Errors
    /// When the connection ends before it.
    pub async fn answer(&mut self) -> Result<(u16, String)> {
        let (status, head_bytes) = head(&mut self.stream, &mut self.read).await?;
        let head = String::from_utf8_lossy(&self.read[..head_bytes]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap_or("0");
        let length: usize = length.trim().parse().context("no length")?;
        self.read.advance(head_bytes);
        while self.read.len() < length {
            ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the answer was cut");
        }
        Ok((status, String::from_utf8(self.read.split_to(length).to_vec())?))
    }
}

async fn connect(from: Option<IpAddr>, address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0)).with_context(|| format!("cannot be {from}"))?;
    }
    let stream = socket.connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads on until a whole head is in `read`; its status and size.
async fn head(stream: &mut TcpStream, read: &mut BytesMut) -> Result<(u16, usize)> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let line = String::from_utf8_lossy(&read[..end]);
            let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            return Ok((status.context("no status")?, end + 4));
        }
        if stream.read_buf(read).await? == 0 {
            bail!("the connection ended before an answer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_size_have_their_length() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut frame = Vec::new();
            encode(&mut frame, FIN | TEXT, &vec![7; length]);
            // As a server would send it: without the mask.
            frame[1] &= 0x7f;
            let (header_bytes, payload_bytes) = frame_size(&frame).unwrap().unwrap();
            assert_eq!((payload_bytes, header_bytes + payload_bytes + 4), (length, frame.len()));
            assert_eq!(frame_size(&frame[..header_bytes - 1]).unwrap(), None);
        }
    }
}
