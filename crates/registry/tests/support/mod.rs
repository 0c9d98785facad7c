//! A registry whose every answer is scripted as raw bytes, and which remembers every request: on any loopback address.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use descriptor::{Classify, Descriptor, Exit};
use registry::{Access, Credentials, Network, Options, Repository};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// What came of the body.
    pub body: Vec<u8>,
    /// Whether all of the body came that the headers promise.
    pub whole: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

type Answer = dyn Fn(&Seen, usize, &mut TcpStream) + Send + Sync;

/// A scripted server; it lives as long as the test process.
pub struct Scripted {
    pub address: String,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    /// Answers on 127.0.0.1. The script gets the request, its number from 0, and the connection.
    pub fn start(script: impl Fn(&Seen, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1", script)
    }

    /// Answers on another loopback address.
    pub fn at(host: &str, script: impl Fn(&Seen, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let log: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (kept, script): (_, Arc<Answer>) = (Arc::clone(&log), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (Arc::clone(&kept), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &log, &*script));
            }
        });
        Self { address, log }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.lock().expect("no script panics with the log").clone()
    }

    /// How often something was asked for.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.is(method, part)).count()
    }

    /// Fails where anything in the log has one of these secrets in it.
    pub fn saw_none_of(&self, secrets: &[&str]) {
        for seen in self.seen() {
            let text = format!(
                "{} {} {:?} {}",
                seen.method,
                seen.target,
                seen.headers,
                String::from_utf8_lossy(&seen.body)
            );
            assert!(seen.header("authorization").is_none(), "Authorization came to {}: {text}", self.address);
            for secret in secrets {
                assert!(!text.contains(secret), "{secret} came to {}: {text}", self.address);
            }
        }
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, script: &Answer) {
    let mut out = stream.try_clone().expect("a second descriptor");
    let mut input = BufReader::new(stream);
    // One request a connection: scripts write "connection: close".
    if let Some(seen) = request(&mut input) {
        let number = {
            let mut log = log.lock().expect("no script panics with the log");
            log.push(seen.clone());
            log.len() - 1
        };
        script(&seen, number, &mut out);
    }
    let _ = out.shutdown(std::net::Shutdown::Both);
}

fn request(input: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut seen = Seen { method, target, headers, body: Vec::new(), whole: true };
    assert!(seen.header("transfer-encoding").is_none(), "requests say how long they are");
    let length: u64 = seen.header("content-length").map_or(0, |text| text.parse().expect("a number"));
    let got = input.take(length).read_to_end(&mut seen.body);
    seen.whole = got.is_ok_and(|got| got as u64 == length);
    Some(seen)
}

/// Writes an answer with its length.
pub fn answer(out: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let mut head =
        format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = out.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| out.write_all(body));
}

/// Writes raw bytes; the client may be gone, which is its right.
pub fn raw(out: &mut TcpStream, bytes: &[u8]) -> bool {
    out.write_all(bytes).is_ok()
}

/// Writes the same piece until the client goes away.
pub fn endless(out: &mut TcpStream, head: &str) {
    raw(out, head.as_bytes());
    let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    while raw(out, piece.as_bytes()) {}
}

/// A patient but not a slow network: short stalls, few retries.
pub fn options(creds: Option<&str>) -> Options {
    let credentials: Option<Credentials> = creds.map(|text| text.parse().expect("USER:PASSWORD"));
    Options { credentials, stall: Duration::from_secs(1), retries: 2, ..Options::default() }
}

pub fn repository(server: &Scripted, access: Access, creds: Option<&str>) -> Repository {
    let reference = format!("{}/some/app:v1", server.address).parse().expect("a reference");
    Network::new(options(creds)).repository(&reference, access).expect("a repository")
}

/// A store of its own, and what keeps it.
pub fn store() -> (tempfile::TempDir, store::Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store::Store::open(Some(&dir.path().join("store"))).expect("a store");
    (dir, store)
}

/// Fetches a blob into a new store and gives the store's bytes.
pub fn fetched(repository: &Repository, blob: &Descriptor) -> Result<Vec<u8>, registry::Error> {
    let (_dir, store) = store();
    let store::Ingest::Writer(mut writer) = store.ingest(&blob.digest, blob.size).expect("an entry") else {
        panic!("an empty store has no blob")
    };
    let outcome = repository.fetch(blob, &mut writer, &|_| ());
    assert_eq!(
        outcome.is_ok(),
        store.has_blob(&blob.digest).expect("a look").is_some(),
        "visible exactly when verified"
    );
    outcome.map(|()| store.read_document(&blob.digest, 1 << 30).expect("the blob"))
}

/// The exit status of a failure, with its text for the message.
pub fn exit<T>(outcome: Result<T, registry::Error>) -> (Exit, String) {
    match outcome {
        Ok(_) => panic!("it succeeded"),
        Err(error) => (error.exit(), error.to_string()),
    }
}
