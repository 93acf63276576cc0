//! `--prometheus`: what dashboards made for node_exporter find, and what strangers cannot do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::*;

/// A monitor that serves, and where.
fn serving(extra: &[&str]) -> (Proc, SocketAddr) {
    let command = &mut lockstep();
    command.args(["monitor", "--log", "none", "--interval", "1s", "--prometheus", "0"]).args(extra);
    let monitor = Proc::start(command);
    let line = monitor.wait_for_line("metrics: http://", SOON);
    let address = line.trim_start_matches("metrics: http://").trim_end_matches("/metrics").parse().unwrap();
    (monitor, address)
}

/// Sends `request` and returns all that is answered.
fn ask(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn the_page_is_openmetrics_with_node_exporters_names_and_the_kernels_numbers() {
    let (_monitor, address) = serving(&[]);
    let mut script = Command::new(support::python_with(&["prometheus_client"]));
    script.arg(workspace().join("tests/python/openmetrics.py")).arg(format!("http://{address}/metrics"));
    let output = run(&mut script);
    assert!(String::from_utf8_lossy(&output.stdout).contains("families"));
}

#[test]
fn what_strangers_send_is_bounded_and_hinders_nobody_for_long() {
    let (monitor, address) = serving(&[]);
    for (request, status) in [
        (&b"\r\n\r\n"[..], "400"),
        (b"GET /metrics HTTP/1.1\r\n\xff\xfe: x\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "421"),
        (b"GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        (b"DELETE /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
    ] {
        let answer = ask(address, request).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", request.escape_ascii());
    }
    let long = [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 8 << 10]].concat();
    assert!(ask(address, &long).unwrap().starts_with("HTTP/1.1 431 "));
    let head = ask(address, b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    for_each_seed(&[1], |seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..pick(50, 2000) {
            let bytes: Vec<u8> = (0..rng.below(300)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
            // It may close before all was sent; all that counts is that it goes on.
            ask(address, &[&bytes[..], b"\r\n\r\n"].concat()).ok();
        }
    });

    // More that say nothing than are answered at a time: they are cut, and then a scrape is answered.
    let before = monitor.open_files().unwrap();
    let silent: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(address).ok()).collect();
    assert!(monitor.open_files().unwrap() < before + 20, "those who wait do not fill the table of files");
    until(SOON, "a scrape beside silent clients", || {
        ask(address, SCRAPE).is_ok_and(|page| page.contains("node_load1"))
    });
    drop(silent);
    assert!(monitor.rss_bytes().unwrap() < 16 << 20, "{:?}", monitor.rss_bytes());
    let mark = monitor.mark();
    monitor.wait_for_line_after(mark, "memory", SOON);
}

#[test]
fn by_default_only_this_machine_is_served_and_a_taken_port_says_what_to_do() {
    let (_monitor, address) = serving(&[]);
    assert!(address.ip().is_loopback());
    let mut second = lockstep();
    second.args(["monitor", "--log", "none", "--prometheus"]).arg(address.to_string());
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&address.to_string()) && said.contains("--prometheus"), "{said}");
    assert!(output.stdout.is_empty(), "nothing was begun");
}
