//! Our client for Python in a process of its own, told line by line what to do; and a way to it that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{PATIENCE, Proc, python_with, workspace};

/// Which of the two clients, and over which transport.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) asyncio: bool,
    pub(super) transports: &'static [&'static str],
}

/// Both clients, as they connect by themselves, and by each transport alone.
pub(super) const ROUTES: [Route; 4] = [
    Route { asyncio: false, transports: &["polling", "websocket"] },
    Route { asyncio: true, transports: &["polling", "websocket"] },
    Route { asyncio: false, transports: &["polling"] },
    Route { asyncio: true, transports: &["websocket"] },
];

/// A Python that finds the package as it lies in the repository.
pub(super) fn python() -> Command {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    let found = PYTHON.get_or_init(|| python_with(&["aiohttp", "requests", "socketio", "websocket"]));
    let mut command = Command::new(found);
    command.env("PYTHONPATH", workspace().join("python/src")).env("PYTHONDONTWRITEBYTECODE", "1").env("no_proxy", "*");
    command
}

/// A client.
pub(super) struct Driven {
    pub(super) proc: Proc,
    stdin: Option<ChildStdin>,
    asked: u64,
    said: Mutex<Said>,
}

/// What it said, as far as it was read, so that much of it is not read again and again.
#[derive(Default)]
struct Said {
    lines: usize,
    values: Vec<Value>,
}

impl Driven {
    /// Starts one that connects; `options` beside the URL, the id and what the route says.
    #[track_caller]
    pub(super) fn start(route: Route, url: &str, id: u64, options: Value) -> Driven {
        let mut all =
            json!({ "async": route.asyncio, "url": url, "id": id, "transports": route.transports, "timeout": 20 });
        let more = options.as_object().unwrap().clone();
        all.as_object_mut().unwrap().extend(more);
        let mut command = python();
        command.arg(workspace().join("tests/python/client.py")).arg(all.to_string());
        let mut proc = Proc::start_with_stdin(command.stdin(Stdio::piped()));
        let stdin = proc.take_stdin();
        Driven { proc, stdin, asked: 0, said: Mutex::default() }
    }

    /// As [`Driven::start`], and waits until it has what there is.
    #[track_caller]
    pub(super) fn settled(route: Route, url: &str, id: u64, options: Value) -> Driven {
        let driven = Driven::start(route, url, id, options);
        driven.hear(0, "in");
        driven
    }

    /// All it said so far, in order.
    pub(super) fn said(&self) -> Vec<Value> {
        self.read().values.clone()
    }

    fn read(&self) -> MutexGuard<'_, Said> {
        let mut said = self.said.lock().unwrap();
        let output = self.proc.output();
        let read = std::mem::replace(&mut said.lines, output.len());
        said.values.extend(output[read..].iter().filter_map(|line| serde_json::from_str(line).ok()));
        said
    }

    pub(super) fn mark(&self) -> usize {
        self.read().values.len()
    }

    /// Each event of this name from `mark` on.
    pub(super) fn heard(&self, mark: usize, event: &str) -> Vec<Value> {
        self.said().into_iter().skip(mark).filter(|line| line["event"] == event).collect()
    }

    /// Waits for an event of this name, from `mark` on.
    #[track_caller]
    pub(super) fn hear(&self, mark: usize, event: &str) -> Value {
        self.wait(event, mark, |line| line["event"] == event)
    }

    /// Waits for a line, from `mark` on.
    #[track_caller]
    pub(super) fn wait(&self, what: &str, mark: usize, it: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        let mut next = mark;
        loop {
            let said = self.read();
            if let Some(line) = said.values.iter().skip(next).find(|line| it(line)) {
                return line.clone();
            }
            next = said.values.len().max(mark);
            drop(said);
            assert!(start.elapsed() < PATIENCE, "no {what} from {mark} on\n{}", self.proc.output().join("\n"));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a callback was told this value.
    #[track_caller]
    pub(super) fn hear_value(&self, mark: usize, name: &str, payload: &Value) -> Value {
        let what = format!("{name} = {payload}");
        self.wait(&what, mark, |line| {
            line["event"] == "change" && line["value"]["name"] == name && line["value"]["payload"] == *payload
        })
    }

    /// Calls a method; its answer is [`Driven::answer`]'s.
    #[track_caller]
    pub(super) fn call_later(&mut self, call: Value) -> u64 {
        self.asked += 1;
        let mut line = vec![json!(self.asked)];
        line.extend(call.as_array().unwrap().iter().cloned());
        writeln!(self.stdin.as_mut().unwrap(), "{}", Value::from(line)).unwrap();
        self.asked
    }

    /// What a call came to: `result`, or `error`, `code` and `text`.
    #[track_caller]
    pub(super) fn answer(&self, number: u64) -> Value {
        self.wait("answer", 0, |line| line["answer"] == number)
    }

    /// Calls a method that does what it is asked for.
    #[track_caller]
    pub(super) fn call(&mut self, call: Value) -> Value {
        let number = self.call_later(call.clone());
        let answer = self.answer(number);
        assert!(answer["error"].is_null(), "{call}: {answer}");
        answer["result"].clone()
    }

    /// Calls a method that is refused, or fails otherwise.
    #[track_caller]
    pub(super) fn call_in_vain(&mut self, call: Value) -> Value {
        let number = self.call_later(call.clone());
        let answer = self.answer(number);
        assert!(!answer["error"].is_null(), "{call}: {answer}");
        answer
    }

    /// Has it close, and end: soon, and nothing of it may be left running.
    #[track_caller]
    pub(super) fn close(mut self) {
        drop(self.stdin.take());
        let closed = self.hear(0, "closed");
        assert_eq!(closed["left"], json!([]));
        assert!(closed["seconds"].as_f64().unwrap() < 2.0, "{closed}");
        assert!(self.proc.wait_exit(PATIENCE).success(), "{}", self.proc.output().join("\n"));
        assert!(self.heard(0, "callbacks run side by side").is_empty());
    }
}

/// Hands on what comes to an address, until it is cut.
pub(super) struct Way {
    pub(super) url: String,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    pub(super) fn to(address: &str) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (open, streams) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let way = Way { url, open: Arc::clone(&open), streams: Arc::clone(&streams) };
        let address = address.to_owned();
        thread::spawn(move || {
            for from in listener.incoming() {
                let Ok(from) = from else { return };
                // Locked, so that a cut finds what was let through before it.
                let mut streams = streams.lock().unwrap();
                if !open.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(to) = TcpStream::connect(&address) else { continue };
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        hand_on(&mut from, &mut to);
                        to.shutdown(Shutdown::Write).ok();
                    });
                }
                streams.extend([from, to]);
            }
        });
        way
    }

    /// Ends what goes over it; nothing more comes through until [`Way::mend`].
    pub(super) fn cut(&self) {
        let mut streams = self.streams.lock().unwrap();
        self.open.store(false, Ordering::SeqCst);
        streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    pub(super) fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn hand_on(from: &mut TcpStream, to: &mut TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}
