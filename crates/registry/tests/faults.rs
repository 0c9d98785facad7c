//! A registry's bad days: each ends with the right bytes or with an error that names what went wrong, in bounded time.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code; each test file uses its part of the support"
)]

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use descriptor::{Descriptor, Digest, Exit, media};
use registry::Access;
use support::{Scripted, Seen, answer, endless, exit, fetched, raw, repository, store};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;
const OTHER: &[u8] = br#"{"schemaVersion":2,"annotations":{}}"#;

/// A blob that no compression or repetition makes smaller than a few reads.
fn blob() -> (Vec<u8>, Descriptor) {
    let bytes: Vec<u8> = (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let blob = Descriptor::of("x", &bytes);
    (bytes, blob)
}

/// The start of the range a request asks for.
fn start(seen: &Seen) -> Option<usize> {
    seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// An answer that promises `length` bytes and breaks off after `bytes`.
fn cut(out: &mut TcpStream, length: usize, bytes: &[u8]) {
    raw(out, format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    raw(out, bytes);
}

fn partial(out: &mut TcpStream, range: &str, bytes: &[u8]) {
    answer(out, 206, &[("content-range", range)], bytes);
}

#[test]
fn a_manifest_by_digest_that_is_another_one_is_refused_whatever_the_header_says() {
    let server = Scripted::start(|_, _, out| {
        let told = Digest::of(MANIFEST).to_string();
        answer(out, 200, &[("content-type", media::OCI_MANIFEST), ("docker-content-digest", &told)], OTHER);
    });
    let wanted = Digest::of(MANIFEST).to_string();
    let (status, text) = exit(repository(&server, Access::Pull, None).manifest(&wanted));
    assert_eq!(status, Exit::Content);
    assert!(text.contains(&format!("wanted {wanted}, got {}", Digest::of(OTHER))), "{text}");
    let (status, _) = exit(repository(&server, Access::Pull, None).manifest("v1"));
    assert_eq!(status, Exit::Content, "a tag's header that is not the body's");
}

#[test]
fn a_manifest_needs_a_manifests_content_type_and_an_entrys_own() {
    for content_type in
        ["text/html", "application/json", "application/vnd.docker.distribution.manifest.v1+prettyjws", ""]
    {
        let server =
            Scripted::start(move |_, _, out| answer(out, 200, &[("content-type", content_type)], MANIFEST));
        let (status, text) = exit(repository(&server, Access::Pull, None).manifest("v1"));
        assert_eq!(status, Exit::Content, "{content_type}: {text}");
    }
    let charset = format!("{}; charset=utf-8", media::OCI_MANIFEST);
    let server = Scripted::start(move |_, _, out| answer(out, 200, &[("content-type", &charset)], MANIFEST));
    let repository = repository(&server, Access::Pull, None);
    assert_eq!(repository.manifest("v1").expect("taken").media_type, media::OCI_MANIFEST);
    let (status, text) = exit(repository.child(&Descriptor::of(media::OCI_INDEX, MANIFEST)));
    assert_eq!(status, Exit::Content, "{text}");
    let entry = Descriptor::new(media::OCI_MANIFEST, Digest::of(MANIFEST), 7);
    let (status, text) = exit(repository.child(&entry));
    assert_eq!(status, Exit::Content, "{text}");
}

#[test]
fn documents_without_end_are_given_up_within_their_bound() {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        media::OCI_MANIFEST
    );
    let server = Scripted::start(move |_, _, out| endless(out, &head));
    let (status, text) = exit(repository(&server, Access::Pull, None).manifest("v1"));
    assert_eq!(status, Exit::Content, "{text}");
    let long = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: 1073741824\r\n\r\n",
        media::OCI_MANIFEST
    );
    let server = Scripted::start(move |_, _, out| {
        raw(out, long.as_bytes());
    });
    assert_eq!(exit(repository(&server, Access::Pull, None).manifest("v1")).0, Exit::Content);
    let (_, blob) = blob();
    let huge = Descriptor::new("x", blob.digest, u64::MAX);
    assert_eq!(exit(repository(&server, Access::Pull, None).document(&huge)).0, Exit::Content);
}

#[test]
fn tokens_and_messages_without_end_are_given_up_within_their_bound() {
    let server = Scripted::start(|seen, _, out| {
        let host = seen.header("host").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        match seen.target.starts_with("/token") {
            true => endless(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            false => answer(out, 401, &[("www-authenticate", &challenge)], b""),
        }
    });
    assert_eq!(exit(repository(&server, Access::Pull, None).manifest("v1")).0, Exit::Content);
    let server =
        Scripted::start(|_, _, out| endless(out, "HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\n\r\n"));
    assert_eq!(exit(repository(&server, Access::Pull, None).manifest("v1")).0, Exit::NotFound);
}

#[test]
fn a_flood_of_headers_is_an_error() {
    let server = Scripted::start(|_, _, out| {
        raw(out, b"HTTP/1.1 200 OK\r\n");
        let line = format!("x-flood: {}\r\n", "y".repeat(1000));
        for _ in 0..10_000 {
            if !raw(out, line.as_bytes()) {
                return;
            }
        }
    });
    assert_eq!(exit(repository(&server, Access::Pull, None).manifest("v1")).0, Exit::Network);
}

#[test]
fn a_server_that_falls_silent_or_drips_is_given_up_as_stalled() {
    let silent: fn(&mut TcpStream) = |_| std::thread::sleep(Duration::from_secs(20));
    let in_body: fn(&mut TcpStream) = |out| {
        raw(
            out,
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: 19\r\n\r\n{{",
                media::OCI_MANIFEST
            )
            .as_bytes(),
        );
        std::thread::sleep(Duration::from_secs(20));
    };
    let drip: fn(&mut TcpStream) = |out| {
        raw(
            out,
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ncontent-length: 1000\r\n\r\n",
                media::OCI_MANIFEST
            )
            .as_bytes(),
        );
        while raw(out, b" ") {
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    for (what, act) in [("silent", silent), ("in the body", in_body), ("drip", drip)] {
        let server = Scripted::start(move |_, _, out| act(out));
        let begun = Instant::now();
        let (status, text) = exit(repository(&server, Access::Pull, None).manifest("v1"));
        assert_eq!(status, Exit::Network, "{what}: {text}");
        assert!(text.contains("stalled"), "{what}: {text}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
        assert_eq!(server.seen().len(), 3, "{what}: once, and two more times");
    }
}

#[test]
fn an_unreachable_registry_is_a_network_error_that_says_so() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let reference = format!("127.0.0.1:{port}/a").parse().expect("a reference");
    let network = registry::Network::new(support::options(None));
    let (status, text) =
        exit(network.repository(&reference, Access::Pull).expect("a repository").manifest("latest"));
    assert_eq!(status, Exit::Network);
    assert!(text.contains("refused"), "{text}");
}

#[test]
fn answers_that_may_pass_are_asked_for_again_and_others_are_not() {
    for (code, asked, status) in [
        (500, 3, Exit::Network),
        (503, 3, Exit::Network),
        (429, 3, Exit::Network),
        (404, 1, Exit::NotFound),
        (403, 1, Exit::Refused),
        (400, 1, Exit::Network),
    ] {
        let server = Scripted::start(move |_, _, out| answer(out, code, &[("retry-after", "0")], b""));
        assert_eq!(exit(repository(&server, Access::Pull, None).manifest("v1")).0, status, "{code}");
        assert_eq!(server.seen().len(), asked, "{code}");
    }
    let server = Scripted::start(|_, number, out| match number {
        0 => answer(out, 503, &[("retry-after", "0")], b""),
        1 => {}
        _ => answer(out, 200, &[("content-type", media::OCI_MANIFEST)], MANIFEST),
    });
    assert_eq!(
        repository(&server, Access::Pull, None).manifest("v1").expect("the third time").bytes,
        MANIFEST
    );
}

#[test]
fn redirects_are_followed_ten_times_and_not_for_ever() {
    for (hops, reached) in [(10, true), (11, false), (usize::MAX, false)] {
        let server = Scripted::start(move |_, number, out| {
            match number < hops {
                true => answer(out, 307, &[("location", &format!("/hop/{number}"))], b""),
                false => answer(out, 200, &[("content-type", media::OCI_MANIFEST)], MANIFEST),
            };
        });
        let outcome = repository(&server, Access::Pull, None).manifest("v1");
        assert_eq!(outcome.is_ok(), reached, "{hops}: {outcome:?}");
        assert!(server.seen().len() <= 11, "{hops}");
    }
}

#[test]
fn wrong_bytes_and_wrong_lengths_of_a_blob_are_content_errors_and_nothing_is_visible() {
    let (bytes, blob) = blob();
    let mut flipped = bytes.clone();
    flipped[777] ^= 1;
    let longer = [&bytes[..], b"x"].concat();
    for (what, body) in [
        ("flipped", flipped),
        ("short", bytes[..bytes.len() - 1].to_vec()),
        ("long", longer),
        ("empty", Vec::new()),
    ] {
        let server = Scripted::start(move |_, _, out| answer(out, 200, &[], &body));
        let (status, text) = exit(fetched(&repository(&server, Access::Pull, None), &blob));
        assert_eq!(status, Exit::Content, "{what}: {text}");
    }
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", bytes.len() - 1);
    let body = bytes[..bytes.len() - 1].to_vec();
    let server = Scripted::start(move |_, _, out| {
        raw(out, chunked.as_bytes());
        raw(out, &body);
        raw(out, b"\r\n0\r\n\r\n");
    });
    assert_eq!(
        exit(fetched(&repository(&server, Access::Pull, None), &blob)).0,
        Exit::Content,
        "short, in chunks"
    );
    let server = Scripted::start(move |_, _, out| {
        endless(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    });
    assert_eq!(exit(fetched(&repository(&server, Access::Pull, None), &blob)).0, Exit::Content, "endless");
    let encoded = bytes;
    let server =
        Scripted::start(move |_, _, out| answer(out, 200, &[("content-encoding", "gzip")], &encoded));
    assert_eq!(exit(fetched(&repository(&server, Access::Pull, None), &blob)).0, Exit::Network, "encoded");
}

#[test]
fn a_blob_that_breaks_off_is_resumed_where_it_ended() {
    let (bytes, blob) = blob();
    let total = bytes.len();
    let whole = bytes.clone();
    for k in [0, 1, total / 2, total - 1] {
        let bytes = whole.clone();
        let server = Scripted::start(move |seen, number, out| match (number, start(seen)) {
            (0, _) => cut(out, total, &bytes[..k]),
            (_, Some(from)) => partial(out, &format!("bytes {from}-{}/{total}", total - 1), &bytes[from..]),
            (_, None) => answer(out, 200, &[], &bytes),
        });
        assert_eq!(
            fetched(&repository(&server, Access::Pull, None), &blob).expect("the blob"),
            whole,
            "cut at {k}"
        );
        assert_eq!(server.seen().len(), 2);
        // What the library had not handed out when the connection broke is fetched again.
        let resumed = start(&server.seen()[1]).unwrap_or(0);
        assert!(resumed <= k, "{resumed} of {k}");
    }
}

#[test]
fn an_answer_to_a_range_is_never_spliced_wrongly() {
    let (bytes, blob) = blob();
    let total = bytes.len();
    type Act = fn(&mut TcpStream, usize, &[u8]);
    let table: [(&str, Act); 9] = [
        ("200 with all", |out, _, all| answer(out, 200, &[], all)),
        ("206 from another offset", |out, from, all| {
            partial(out, &format!("bytes {}-{}/{}", from - 1, all.len() - 1, all.len()), &all[from - 1..]);
        }),
        ("206 of another total", |out, from, all| {
            partial(out, &format!("bytes {from}-{}/{}", all.len() - 1, all.len() + 1), &all[from..]);
        }),
        ("206 that ends early", |out, from, all| {
            partial(out, &format!("bytes {from}-{}/{}", all.len() - 2, all.len()), &all[from..all.len() - 1]);
        }),
        ("206 without a range", |out, from, all| answer(out, 206, &[], &all[from..])),
        ("206 in parts", |out, from, all| {
            let range = format!("bytes {from}-{}/{}", all.len() - 1, all.len());
            let kind = ("content-type", "multipart/byteranges; boundary=x");
            answer(out, 206, &[("content-range", &range), kind], &all[from..]);
        }),
        ("206 encoded", |out, from, all| {
            let range = format!("bytes {from}-{}/{}", all.len() - 1, all.len());
            answer(out, 206, &[("content-range", &range), ("content-encoding", "gzip")], &all[from..]);
        }),
        ("206 with other bytes", |out, from, all| {
            let other = vec![0; all.len() - from];
            partial(out, &format!("bytes {from}-{}/{}", all.len() - 1, all.len()), &other);
        }),
        ("416", |out, _, _| answer(out, 416, &[], b"")),
    ];
    for (what, act) in table {
        let (_dir, store) = store();
        let ingest = |store: &store::Store| match store.ingest(&blob.digest, blob.size).expect("an entry") {
            store::Ingest::Writer(writer) => writer,
            other => panic!("{other:?}"),
        };
        let mut first = ingest(&store);
        first.append(&bytes[..total / 3]).expect("a third");
        drop(first);
        let all = bytes.clone();
        let server = Scripted::start(move |seen, _, out| match start(seen) {
            Some(from) => act(out, from, &all),
            None => answer(out, 200, &[], &all),
        });
        let mut writer = ingest(&store);
        assert_eq!(writer.offset() as usize, total / 3);
        repository(&server, Access::Pull, None)
            .fetch(&blob, &mut writer, &|_| ())
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(store.read_document(&blob.digest, 1 << 30).expect("the blob"), bytes, "{what}");
        assert!(server.seen().len() <= 2, "{what}: {}", server.seen().len());
    }
}

#[test]
fn what_an_earlier_process_left_wrong_is_thrown_away_and_fetched_anew() {
    let (bytes, blob) = blob();
    let (_dir, store) = store();
    let store::Ingest::Writer(mut first) = store.ingest(&blob.digest, blob.size).expect("an entry") else {
        panic!()
    };
    first.append(&[7; 5000]).expect("garbage");
    drop(first);
    let (all, total) = (bytes.clone(), bytes.len());
    let server = Scripted::start(move |seen, _, out| match start(seen) {
        Some(from) => partial(out, &format!("bytes {from}-{}/{total}", total - 1), &all[from..]),
        None => answer(out, 200, &[], &all),
    });
    let store::Ingest::Writer(mut writer) = store.ingest(&blob.digest, blob.size).expect("an entry") else {
        panic!()
    };
    repository(&server, Access::Pull, None).fetch(&blob, &mut writer, &|_| ()).expect("the blob");
    assert_eq!(store.read_document(&blob.digest, 1 << 30).expect("the blob"), bytes);
}

#[test]
fn a_token_that_expires_on_the_way_is_renewed_once_and_not_in_a_loop() {
    for (with_challenge, lasting) in [(true, true), (false, true), (true, false), (false, false)] {
        let server = Scripted::start(move |seen, number, out| {
            let host = seen.header("host").unwrap_or_default();
            let challenge = format!("Bearer realm=\"http://{host}/token\"");
            if seen.target.starts_with("/token") {
                return answer(out, 200, &[], format!(r#"{{"access_token":"t{number}"}}"#).as_bytes());
            }
            let good = if number < 4 { Some("Bearer t1") } else { Some("Bearer t5").filter(|_| lasting) };
            match seen.header("authorization") {
                Some(header) if Some(header) == good => {
                    answer(out, 200, &[("content-type", media::OCI_MANIFEST)], MANIFEST);
                }
                Some(_) if !with_challenge => answer(out, 401, &[], b""),
                _ => answer(out, 401, &[("www-authenticate", &challenge)], b""),
            }
        });
        let repository = repository(&server, Access::Pull, None);
        repository.manifest("v1").expect("with the first token: requests 0, 1 and 2");
        repository.manifest("v1").expect("with the same token: request 3");
        let outcome = repository.manifest("v1");
        assert_eq!(outcome.is_ok(), lasting, "challenge {with_challenge}: {outcome:?}");
        assert!(server.seen().len() <= 12, "{}", server.seen().len());
    }
}

#[test]
fn a_registry_that_does_not_know_head_gets_the_blob() {
    let (_, blob) = blob();
    for (code, there) in [(200, false), (404, false), (405, false)] {
        let server = Scripted::start(move |_, _, out| answer(out, code, &[], b""));
        // A HEAD of a blob tells its length; 0 is not this blob's.
        assert_eq!(
            repository(&server, Access::Push, None).has_blob(&blob).expect("an answer"),
            there,
            "{code}"
        );
    }
}

#[test]
fn uploads_without_a_location_or_with_another_digest_fail() {
    let bytes: &'static [u8] = b"payload";
    let blob = Descriptor::of("x", bytes);
    let open = || -> Result<Box<dyn std::io::Read + Send>, registry::Error> { Ok(Box::new(bytes)) };
    let push = |server: &Scripted| {
        let upload = registry::Upload {
            blob: &blob,
            open: &open,
            in_flight: false,
            progress: std::sync::Arc::new(|_| ()),
        };
        repository(server, Access::Push, None).upload(&upload)
    };
    let server = Scripted::start(|_, _, out| answer(out, 202, &[], b""));
    assert_eq!(exit(push(&server)).0, Exit::Network);
    let server = Scripted::start(|seen, _, out| match seen.method.as_str() {
        "POST" => answer(out, 202, &[("location", "relative?a=b")], b""),
        _ => answer(out, 201, &[("docker-content-digest", &Digest::of(b"other").to_string())], b""),
    });
    assert_eq!(exit(push(&server)).0, Exit::Content);
    assert!(
        server.seen()[1].target.starts_with("/v2/some/app/blobs/uploads/relative?a=b&digest="),
        "{:?}",
        server.seen()[1]
    );
    let server = Scripted::start(|seen, number, out| match (seen.method.as_str(), number) {
        ("POST", _) => answer(out, 202, &[("location", "/up")], b""),
        (_, 1) => answer(out, 503, &[("retry-after", "0")], b""),
        _ => answer(out, 201, &[], b""),
    });
    push(&server).expect("the second time");
    assert_eq!(server.seen().last().map(|seen| seen.body.clone()), Some(bytes.to_vec()), "all of it again");
}
