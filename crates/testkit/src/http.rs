//! A small HTTP/1.1 server, client and proxy on loopback: every answer scripted, every request recorded.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, HEAD, ...
    pub method: String,
    /// The request target as sent: a path, or an absolute URI for a proxy.
    pub target: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, by its Content-Length.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers; Content-Length is added where it is missing.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Send the body in pieces of so many bytes, with this pause after each.
    pub slow: Option<(usize, Duration)>,
}

impl Response {
    /// A 200 with that type and body.
    pub fn ok(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::status(200).with("content-type", content_type).body(body)
    }

    /// An empty answer with that status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut_after: None, slow: None }
    }

    /// Adds a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Closes the connection after `bytes` of the body.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Sends `bytes` at a time with a pause after each.
    pub fn slowly(mut self, bytes: usize, pause: Duration) -> Self {
        self.slow = Some((bytes, pause));
        self
    }
}

/// A server on a free port of 127.0.0.1 that ends when dropped.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Answers each request with what `answer` says.
    pub fn start(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, ended, answer) = (seen.clone(), stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || talk(&stream, &log, answer.as_ref()));
            }
        });
        Self { address, seen, stop }
    }

    /// A forward proxy for plain HTTP: host names in `hosts` lead to the address beside them.
    pub fn proxy(hosts: Vec<(String, SocketAddr)>) -> Self {
        Self::start(move |request| forward(request, &hosts).unwrap_or_else(|| Response::status(502)))
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The socket address.
    pub fn socket(&self) -> SocketAddr {
        self.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("no thread panics while logging").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Serves requests of one connection until the client closes it.
fn talk(stream: &TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Response) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        log.lock().expect("no thread panics while logging").push(request.clone());
        let last = request.header("connection") == Some("close");
        if send(stream, &request, &answer(&request)).is_err() || last {
            break;
        }
    }
    drop(stream.shutdown(std::net::Shutdown::Both));
}

fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|&length| length > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some((first.trim_end().to_owned(), headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let (first, headers) = read_head(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, target, headers, body: Vec::new() };
    let length: usize = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

fn send(mut stream: &TcpStream, request: &Request, response: &Response) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !response.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &response.body[..response.cut_after.unwrap_or(response.body.len()).min(response.body.len())];
    let (piece, pause) = response.slow.unwrap_or((body.len().max(1), Duration::ZERO));
    for part in body.chunks(piece) {
        stream.write_all(part)?;
        std::thread::sleep(pause);
    }
    match response.cut_after {
        Some(_) => Err(std::io::ErrorKind::ConnectionReset.into()),
        None => Ok(()),
    }
}

fn forward(request: &Request, hosts: &[(String, SocketAddr)]) -> Option<Response> {
    let (host, path) = request.target.strip_prefix("http://")?.split_once('/')?;
    let name = host.split(':').next()?;
    let (_, address) = hosts.iter().find(|(known, _)| known == name)?;
    let answer = ask(*address, &request.method, &format!("/{path}"), &[("host", host)], &request.body)?;
    let mut response = Response::status(answer.status).body(answer.body);
    response.headers = answer.headers.into_iter().filter(|(name, _)| name == "content-type").collect();
    Some(response)
}

/// What a server answered to [`ask`].
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Sends one request on a connection of its own; `None` when the server is not there or cuts the answer's head.
pub fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut reader = BufReader::new(stream);
    let (first, headers) = read_head(&mut reader)?;
    let status = first.split(' ').nth(1)?.parse().ok()?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body).ok()?;
    Some(Answer { status, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_reaches_a_server_by_a_name_that_only_it_knows() {
        let server = Server::start(|request| Response::ok("text/plain", request.target.clone()));
        let proxy = Server::proxy(vec![("files.test".into(), server.socket())]);
        let answer = ask(proxy.socket(), "GET", "http://files.test:80/a", &[], b"").expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"/a".as_slice()));
        assert_eq!(server.seen()[0].header("host"), Some("files.test:80"));
        assert_eq!(
            ask(proxy.socket(), "GET", "http://other.test/a", &[], b"").expect("an answer").status,
            502
        );
    }
}
