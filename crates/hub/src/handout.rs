//! The hub's own program, handed out to machines that have none, and the line that installs it there.
//!
//! Such a machine knows no key of this hub yet, so what it trusts is what was pasted into its shell: the line has the SHA-256 of a
//! script, and the script that of the program. Whoever sits between may refuse them, and change nothing that runs.
//!
//! The program is the one that runs: opened once, by `/proc/self/exe`, so that one that is put in its place on disk is handed
//! out by the hub that runs it. It is no secret, and given to whoever asks; how many take it at once is bounded,
//! and for how long.

use crate::http::{HttpConfig, Port};
use ring::digest::{Context, SHA256};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::answer::Installer;
use wire::limiter::network;
use wire::link::is_host;
use wire::message::{Code, Refusal};

/// The oldest glibc with which the program runs, as it is built; `None`: it needs none. A test holds it against what the program asks of it.
pub const GLIBC_MIN: Option<&str> = if cfg!(target_env = "gnu") { Some("2.34") } else { None };
/// Who takes the program at the same time; a further one is told when to try again.
const TAKERS_MAX: usize = 32;
/// Of them, those at one address, or in one IPv6 network: half a classroom behind one router, and not all of the places.
const TAKERS_MAX_PER_ADDRESS: usize = 16;
/// For so long one place is held: whoever is slower than this (11 KB/s) is cut.
pub(crate) const TAKE_MAX: Duration = Duration::from_secs(30 * 60);
/// When to try again.
const AGAIN_MS: u64 = 5_000;
/// So much is read at a time, and held for each who takes it.
const PIECE_BYTES: usize = 64 * 1024;
/// No script is longer; the line takes no more.
const SCRIPT_BYTES_MAX: usize = 64 * 1024;
const SCRIPT: &str = include_str!("handout/install.sh");

/// A program to be handed out.
#[derive(Debug)]
pub(crate) struct Handout {
    program: File,
    bytes: u64,
    sha256: String,
    script: String,
    takers: Mutex<HashMap<IpAddr, usize>>,
}

impl Handout {
    /// What its script is called.
    pub(crate) const SCRIPT_NAME: &'static str = "install.sh";

    /// Of the program that runs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of_this_program() -> io::Result<Handout> {
        Handout::of(File::open("/proc/self/exe")?)
    }

    fn of(program: File) -> io::Result<Handout> {
        let bytes = program.metadata()?.len();
        let mut context = Context::new(&SHA256);
        let (mut at, mut buffer) = (0, vec![0; PIECE_BYTES]);
        loop {
            let read = program.read_at(&mut buffer, at)?;
            if read == 0 {
                break;
            }
            context.update(&buffer[..read]);
            at += read as u64;
        }
        if at != bytes {
            return Err(io::Error::other(format!("it has {bytes} bytes and {at} of them can be read")));
        }
        let sha256 = data_encoding::HEXLOWER.encode(context.finish().as_ref());
        let script = script(&sha256, bytes);
        Ok(Handout { program, bytes, sha256, script, takers: Mutex::default() })
    }

    /// How the program is called: by what it runs on.
    pub(crate) fn file_name(&self) -> String {
        format!("lockstep-{}-linux", std::env::consts::ARCH)
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its SHA-256, in hexadecimal digits.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What installs it; without a newline at its end, as a shell's variable has none.
    pub(crate) fn script(&self) -> &str {
        &self.script
    }

    /// The bytes from `at` on, some [`PIECE_BYTES`] of them; none at the end.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn piece(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; PIECE_BYTES];
        let read = self.program.read_at(&mut piece, at)?;
        piece.truncate(read);
        Ok(piece)
    }

    /// A place among those who take it, for who asks from `address`.
    ///
    /// # Errors
    /// When all are taken.
    pub(crate) fn enter(self: &Arc<Handout>, address: IpAddr) -> Result<Taker, Refusal> {
        let address = network(address);
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = takers.get(&address).copied().unwrap_or(0);
        if takers.values().sum::<usize>() >= TAKERS_MAX || of_it >= TAKERS_MAX_PER_ADDRESS {
            let text = format!(
                "{TAKERS_MAX} machines at once may fetch the program, {TAKERS_MAX_PER_ADDRESS} of one address: try again in {} s",
                AGAIN_MS / 1000
            );
            return Err(Refusal { code: Code::Full, text, retry_ms: Some(AGAIN_MS) });
        }
        takers.insert(address, of_it + 1);
        Ok(Taker { handout: Arc::clone(self), address })
    }
}

/// A place among those who take the program, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taker {
    handout: Arc<Handout>,
    address: IpAddr,
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut takers = self.handout.takers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = takers.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                takers.remove(&self.address);
            }
        }
    }
}

/// A [`Handout`] at the place where it can be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) handout: Arc<Handout>,
    /// Where HTTP is served, as other machines call it: scheme, host and port.
    pub(crate) base: String,
    /// Whether machines that reach the hub reach that as well.
    reached: bool,
}

impl Offer {
    /// What is told of it: the line, and all that the line is about.
    ///
    /// # Errors
    /// When those who reach the hub do not reach this.
    pub(crate) fn installer(&self) -> Result<Installer, Refusal> {
        let Offer { handout, base, reached } = self;
        if !reached {
            return Err(not_offered(&format!(
                "HTTP is served at {base}, where other machines cannot fetch the program: start the hub with --http ADDR, on an address that they reach"
            )));
        }
        Ok(Installer {
            line: line(base, &sha256(handout.script.as_bytes())),
            url: format!("{base}/install/{}", handout.file_name()),
            sha256: handout.sha256.clone(),
            bytes: handout.bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            glibc: GLIBC_MIN.map(str::to_owned),
        })
    }
}

/// What a hub offers.
///
/// # Errors
/// Why it offers nothing, and what to do.
pub(crate) fn offer(
    config: Option<&HttpConfig>,
    port: Option<&Port>,
    advertise: Option<&str>,
    only_loopback: bool,
) -> Result<Offer, Refusal> {
    let (Some(config), Some(port)) = (config, port) else {
        return Err(not_offered(
            "this hub serves no HTTP: start it with --http ADDR, on an address that other machines reach",
        ));
    };
    let host = port.host(advertise);
    if !is_host(host.trim_matches(['[', ']'])) {
        return Err(not_offered(&format!(
            "{host:?} is neither a name nor an address: start the hub with --advertise HOST, which other machines call it by"
        )));
    }
    if !config.handout {
        return Err(not_offered("this hub does not hand out its program (--no-install)"));
    }
    let handout = Handout::of_this_program().map_err(|error| {
        tracing::error!(%error, "the program that runs cannot be read: it is not handed out");
        not_offered(&format!("the program that runs cannot be read: {error}"))
    })?;
    tracing::info!(
        sha256 = handout.sha256,
        bytes = handout.bytes,
        "the program is handed out to machines that have none"
    );
    let reached = !port.is_only_here() || only_loopback;
    Ok(Offer { handout: Arc::new(handout), base: port.base(advertise), reached })
}

/// Why there is no program to be had.
pub(crate) fn not_offered(why: &str) -> Refusal {
    Refusal { code: Code::NotFound, text: why.to_owned(), retry_ms: None }
}

/// One line for any shell: fetches the script, compares its SHA-256, and runs it. With `-` behind it, it reads a join link from its standard input.
///
/// Whatever is fetched is kept in a variable and never in a file, and run only as the bytes whose SHA-256 was compared.
fn line(base: &str, script_sha256: &str) -> String {
    let fetch = format!("curl -fsSkm60 \"$1/install/{}\" | head -c {SCRIPT_BYTES_MAX}", Handout::SCRIPT_NAME);
    let wrong = "lockstep: what came from $1 is not what its hub printed; nothing was done";
    format!(
        "sh -c 's=$({fetch}); case $(printf %s \"$s\" | sha256sum) in {script_sha256}*) exec sh -c \"$s\" \"$0\" \"$@\" ;; esac; \
         echo \"{wrong}\" >&2; exit 3' install '{base}'"
    )
}

fn script(sha256: &str, bytes: u64) -> String {
    let arch = std::env::consts::ARCH;
    // As uname calls them.
    let machines = match arch {
        "x86" => "i386 | i486 | i586 | i686",
        "aarch64" => "aarch64 | arm64",
        "arm" => "armv6l | armv7l | armv8l",
        "powerpc64" => "ppc64 | ppc64le",
        "loongarch64" | "riscv64" | "s390x" | "x86_64" => arch,
        other => other,
    };
    let file = format!("lockstep-{arch}-linux");
    [
        ("@VERSION@", env!("CARGO_PKG_VERSION")),
        ("@MACHINES@", machines),
        ("@ARCH@", arch),
        ("@GLIBC@", GLIBC_MIN.unwrap_or("")),
        ("@FILE@", &file),
        ("@BYTES@", &bytes.to_string()),
        ("@SHA256@", sha256),
    ]
    .iter()
    .fold(SCRIPT.trim_end().to_owned(), |script, (what, with)| script.replace(what, with))
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(ring::digest::digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handout(bytes: &[u8]) -> Arc<Handout> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        Arc::new(Handout::of(file).unwrap())
    }

    #[test]
    fn the_line_names_the_script_by_its_sha256_and_the_script_the_program() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let offer = Offer { handout: handout(&bytes), base: "https://hub.example:7118".into(), reached: true };
        let script = offer.handout.script();
        assert!(script.contains(&sha256(&bytes)) && script.contains("200000"), "{script}");
        let left = script.split('@').skip(1).find(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase()));
        assert_eq!(left, None);
        assert!(script.len() < SCRIPT_BYTES_MAX && !script.ends_with('\n'));
        let told = offer.installer().unwrap();
        assert!(told.line.contains(&sha256(script.as_bytes())), "{}", told.line);
        // Two words for a shell, whichever it is: what it runs, and the address, which may have brackets.
        assert_eq!(told.line.matches('\'').count(), 4);
        assert!(told.line.ends_with("' install 'https://hub.example:7118'") && !told.line.contains('\n'));
        assert_eq!((told.bytes, told.sha256), (200_000, sha256(&bytes)));
        let pieces: Vec<u8> = (0..4).flat_map(|n| offer.handout.piece(n * PIECE_BYTES as u64).unwrap()).collect();
        assert_eq!(pieces, bytes);
        let unreached = Offer { reached: false, ..offer };
        assert!(unreached.installer().unwrap_err().text.contains("--http ADDR"));
    }

    #[test]
    fn one_address_has_some_of_the_places_and_each_is_given_back() {
        let handout = handout(b"x");
        let at = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut taken: Vec<Taker> = (0..TAKERS_MAX_PER_ADDRESS).map(|_| handout.enter(at(1)).unwrap()).collect();
        let refused = handout.enter(at(1)).unwrap_err();
        assert_eq!((refused.code, refused.retry_ms), (Code::Full, Some(AGAIN_MS)));
        taken.extend((TAKERS_MAX_PER_ADDRESS..TAKERS_MAX).map(|_| handout.enter(at(2)).unwrap()));
        assert!(handout.enter(at(3)).is_err(), "all are taken");
        taken.pop();
        drop(handout.enter(at(3)).unwrap());
        drop(taken);
        assert!(handout.takers.lock().unwrap().is_empty());
        // A machine has all addresses of its network.
        let of_network = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let taken: Vec<_> = (0..u16::try_from(TAKERS_MAX).unwrap()).map(|n| handout.enter(of_network(n))).collect();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), TAKERS_MAX_PER_ADDRESS);
    }
}
