//! The hub's side of bulk connections: honest, unless a script answers first.

use crate::conn::{Incoming, Stream};
use crate::fetch::{Connect, SessionWatch};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tree::{ContentId, chunk};
use wire::codec::encode_frame;
use wire::limits::CONTENT_WHOLE_BYTES_MAX;
use wire::message::{ToClient, ToHub};

/// What a script has a connection do.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Say(ToClient),
    /// Bytes that are no message.
    Raw(Vec<u8>),
    Cut,
}

type Script = Box<dyn FnMut(&ToHub, &Server) -> Option<Vec<Reply>> + Send>;

/// See the module.
pub(crate) struct Server {
    inner: Mutex<Inner>,
    script: Mutex<Option<Script>>,
    sessions: watch::Sender<Option<Connect>>,
}

#[derive(Default)]
struct Inner {
    contents: HashMap<ContentId, Bytes>,
    asked: Vec<ToHub>,
    connections: usize,
}

impl Server {
    pub(crate) fn new() -> Arc<Server> {
        Arc::new(Server { inner: Mutex::default(), script: Mutex::default(), sessions: watch::channel(None).0 })
    }

    /// Has this content to give.
    pub(crate) fn has(&self, content: &[u8]) {
        self.lock().contents.insert(ContentId::of(content), Bytes::copy_from_slice(content));
    }

    /// `script` is asked first; what it does not answer is answered honestly.
    pub(crate) fn script(&self, script: impl FnMut(&ToHub, &Server) -> Option<Vec<Reply>> + Send + 'static) {
        *self.script.lock().unwrap() = Some(Box::new(script));
    }

    pub(crate) fn honest(&self) {
        *self.script.lock().unwrap() = None;
    }

    /// Everything it was asked for.
    pub(crate) fn asked(&self) -> Vec<ToHub> {
        self.lock().asked.clone()
    }

    /// How often a content was asked for.
    pub(crate) fn wants_of(&self, content: &[u8]) -> usize {
        let id = ContentId::of(content).0;
        let wants = |asked: &&ToHub| matches!(asked, ToHub::Want { contents, .. } if contents.contains(&id));
        self.lock().asked.iter().filter(wants).count()
    }

    /// How many chunks were asked for.
    pub(crate) fn chunks_asked(&self) -> usize {
        let chunks = |asked: &ToHub| match asked {
            ToHub::WantChunks { chunks, .. } => chunks.len(),
            _ => 0,
        };
        self.lock().asked.iter().map(chunks).sum()
    }

    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    pub(crate) fn session(self: &Arc<Server>, runtime: &tokio::runtime::Handle) -> SessionWatch {
        let (server, runtime) = (Arc::clone(self), runtime.clone());
        let connect: Connect = Arc::new(move || {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let serving = Arc::clone(&server);
            serving.lock().connections += 1;
            runtime.spawn(async move { serving.serve(theirs).await });
            Box::pin(async move { Ok(Box::new(ours) as Box<dyn Stream>) })
        });
        self.sessions.send_replace(Some(connect));
        self.sessions.subscribe()
    }

    async fn serve(&self, stream: tokio::io::DuplexStream) {
        let (read, mut write) = tokio::io::split(stream);
        let mut incoming = Incoming::new(read);
        incoming.logged_in();
        while let Ok(Some(body)) = incoming.next_body().await {
            let message = wire::codec::decode_to_hub(&body).unwrap();
            self.lock().asked.push(message.clone());
            let scripted = self.script.lock().unwrap().as_mut().and_then(|script| script(&message, self));
            let replies = scripted.unwrap_or_else(|| self.answer(&message));
            for reply in replies {
                let bytes = match reply {
                    Reply::Say(message) => encode_frame(&message).unwrap(),
                    Reply::Raw(bytes) => bytes.into(),
                    Reply::Cut => return,
                };
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What an honest hub says, its recipes in parts of three.
    pub(crate) fn answer(&self, message: &ToHub) -> Vec<Reply> {
        let inner = self.lock();
        let mut replies = Vec::new();
        match message {
            ToHub::Want { contents, .. } => {
                for &content in contents {
                    match inner.contents.get(&ContentId(content)) {
                        None => replies.push(Reply::Say(ToClient::Gone { content })),
                        Some(bytes) if bytes.len() <= CONTENT_WHOLE_BYTES_MAX => {
                            replies.push(Reply::Say(ToClient::Content { content, bytes: bytes.clone() }));
                        }
                        Some(bytes) => {
                            let chunks = recipe(bytes);
                            let total = u32::try_from(chunks.len()).unwrap();
                            for (n, part) in (0..).zip(chunks.chunks(3)) {
                                let (first, chunks) = (n * 3, part.to_vec());
                                replies.push(Reply::Say(ToClient::Recipe { content, first, total, chunks }));
                            }
                        }
                    }
                }
            }
            ToHub::WantChunks { content, chunks, .. } => {
                let bytes = &inner.contents[&ContentId(*content)];
                let cuts = chunk::chunks(&bytes[..], bytes.len() as u64).unwrap();
                for &index in chunks {
                    let cut = cuts[index as usize];
                    let from = usize::try_from(cut.offset).unwrap();
                    let bytes = bytes.slice(from..from + cut.len as usize);
                    replies.push(Reply::Say(ToClient::Chunk { content: *content, index, bytes }));
                }
            }
            other => panic!("{other:?}"),
        }
        replies
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The list of chunks of a content.
pub(crate) fn recipe(bytes: &[u8]) -> Vec<([u8; 32], u32)> {
    chunk::chunks(bytes, bytes.len() as u64).unwrap().iter().map(|cut| (cut.hash.0, cut.len)).collect()
}
