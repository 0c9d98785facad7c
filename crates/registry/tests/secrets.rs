//! Credentials go to the registry they were given for, by none of the known routes anywhere else.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "test code; each test file uses its part of the support"
)]

mod support;

use descriptor::{Descriptor, Exit, media};
use registry::Access;
use support::{Scripted, answer, exit, fetched, repository};

const CREDS: &str = "me:hunter2-secret";
const BASIC: &str = "bWU6aHVudGVyMi1zZWNyZXQ=";
const TOKEN: &str = "bearer-token-secret";
const SECRETS: [&str; 4] = ["hunter2-secret", BASIC, TOKEN, "bWU6"];
const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

/// A server on another address that answers everything with 200 and this body.
fn elsewhere(body: &'static [u8]) -> Scripted {
    Scripted::at("127.0.0.2", move |_, _, out| {
        answer(out, 200, &[("content-type", media::OCI_MANIFEST)], body)
    })
}

/// Asks for Basic, then does what `then` says.
fn behind_basic(then: impl Fn(&support::Seen, &mut std::net::TcpStream) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |seen, _, out| match seen.header("authorization") {
        Some(header) if header == format!("Basic {BASIC}") => then(seen, out),
        _ => answer(out, 401, &[("www-authenticate", "Basic realm=\"r\"")], b""),
    })
}

/// Asks for a bearer token of its own token server.
fn behind_bearer(
    then: impl Fn(&support::Seen, &mut std::net::TcpStream) + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |seen, _, out| {
        let host = seen.header("host").unwrap_or_default().to_owned();
        if seen.target.starts_with("/token") {
            return answer(out, 200, &[], format!(r#"{{"token":"{TOKEN}"}}"#).as_bytes());
        }
        match seen.header("authorization") {
            Some(header) if header == format!("Bearer {TOKEN}") => then(seen, out),
            _ => {
                let challenge =
                    format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"evil:scope\"");
                answer(out, 401, &[("www-authenticate", &challenge)], b"");
            }
        }
    })
}

#[test]
fn a_redirect_of_a_blob_to_another_host_carries_no_credentials() {
    for address in ["127.0.0.1", "127.0.0.2"] {
        let other = Scripted::at(address, |_, _, out| answer(out, 200, &[], b"blob"));
        let to = format!("http://{}/somewhere?sig=1", other.address);
        let redirect = move |_: &support::Seen, out: &mut std::net::TcpStream| {
            answer(out, 307, &[("location", &to)], b"")
        };
        for server in [behind_basic(redirect.clone()), behind_bearer(redirect)] {
            let repository = repository(&server, Access::Pull, Some(CREDS));
            assert_eq!(fetched(&repository, &Descriptor::of("x", b"blob")).expect("the blob"), b"blob");
        }
        assert_eq!(other.count("GET", "/somewhere?sig=1"), 2);
        other.saw_none_of(&SECRETS);
    }
}

#[test]
fn a_redirect_of_a_manifest_to_another_host_carries_no_credentials() {
    let other = elsewhere(MANIFEST);
    let to = format!("http://{}/m", other.address);
    let server = behind_basic(move |_, out| answer(out, 302, &[("location", &to)], b""));
    let fetched = repository(&server, Access::Pull, Some(CREDS)).manifest("v1").expect("the manifest");
    assert_eq!(fetched.bytes, MANIFEST);
    other.saw_none_of(&SECRETS);
}

#[test]
fn a_token_server_without_tls_on_another_port_is_not_asked() {
    for host in ["127.0.0.1", "127.0.0.2"] {
        let other = Scripted::at(host, |_, _, out| answer(out, 200, &[], br#"{"token":"x"}"#));
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", other.address);
        let server =
            Scripted::start(move |_, _, out| answer(out, 401, &[("www-authenticate", &challenge)], b""));
        let (status, text) = exit(repository(&server, Access::Pull, Some(CREDS)).manifest("v1"));
        assert_eq!(status, Exit::Refused, "{text}");
        assert!(other.seen().is_empty(), "it was asked");
    }
}

#[test]
fn token_servers_at_metadata_addresses_with_users_or_of_other_schemes_are_refused() {
    for realm in [
        "http://169.254.169.254/t",
        "https://169.254.169.254/t",
        "https://u:p@example.invalid/t",
        "file:///t",
        "",
        ":",
    ] {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
        let server =
            Scripted::start(move |_, _, out| answer(out, 401, &[("www-authenticate", &challenge)], b""));
        let (status, text) = exit(repository(&server, Access::Pull, Some(CREDS)).manifest("v1"));
        assert_eq!(status, Exit::Refused, "{realm}: {text}");
    }
}

#[test]
fn a_token_servers_redirect_to_another_host_carries_no_credentials() {
    let other =
        Scripted::at("127.0.0.2", |_, _, out| answer(out, 200, &[], br#"{"token":"from-elsewhere"}"#));
    let to = format!("http://{}/token", other.address);
    let server = Scripted::start(move |seen, _, out| {
        let host = seen.header("host").unwrap_or_default();
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        match seen.target.starts_with("/token") {
            true => answer(out, 307, &[("location", &to)], b""),
            false => answer(out, 401, &[("www-authenticate", &challenge)], b""),
        }
    });
    let (status, text) = exit(repository(&server, Access::Pull, Some(CREDS)).manifest("v1"));
    assert_eq!(status, Exit::Refused, "{text}");
    other.saw_none_of(&SECRETS);
}

#[test]
fn another_hosts_challenge_after_a_redirect_is_not_answered() {
    let other = Scripted::at("127.0.0.2", |_, _, out| {
        answer(out, 401, &[("www-authenticate", "Basic realm=\"x\"")], b"")
    });
    let to = format!("http://{}/m", other.address);
    let server = behind_basic(move |_, out| answer(out, 307, &[("location", &to)], b""));
    let (status, text) = exit(repository(&server, Access::Pull, Some(CREDS)).manifest("v1"));
    assert_eq!(status, Exit::Refused, "{text}");
    assert!(!other.seen().is_empty());
    other.saw_none_of(&SECRETS);
}

#[test]
fn an_upload_location_on_another_host_gets_the_blob_and_no_credentials() {
    let other = Scripted::at("127.0.0.2", |_, _, out| answer(out, 201, &[], b""));
    let to = format!("http://{}/upload?state=1", other.address);
    let server = behind_basic(move |_, out| answer(out, 202, &[("location", &to)], b""));
    upload(&server, b"payload", b"payload").expect("uploaded");
    assert_eq!(other.count("PUT", "/upload?state=1&digest=sha256%3A"), 1);
    other.saw_none_of(&SECRETS);
}

#[test]
fn link_headers_and_foreign_urls_are_never_followed() {
    let other = elsewhere(MANIFEST);
    let link = format!("<http://{}/next>; rel=\"next\"", other.address);
    let server = behind_basic(move |_, out| {
        answer(out, 200, &[("content-type", media::OCI_MANIFEST), ("link", &link)], MANIFEST);
    });
    repository(&server, Access::Pull, Some(CREDS)).manifest("v1").expect("the manifest");
    assert!(other.seen().is_empty());
}

#[test]
fn a_token_is_asked_for_our_own_scope_and_not_for_the_challenges() {
    let server = behind_bearer(|_, out| answer(out, 200, &[("content-type", media::OCI_MANIFEST)], MANIFEST));
    repository(&server, Access::Push, Some(CREDS)).manifest("v1").expect("the manifest");
    let asked = server.seen().into_iter().find(|seen| seen.target.starts_with("/token")).expect("asked");
    assert_eq!(asked.target, "/token?service=s&scope=repository%3Asome%2Fapp%3Apull%2Cpush");
    assert_eq!(asked.header("authorization"), Some(format!("Basic {BASIC}").as_str()));
}

#[test]
fn without_credentials_a_bearer_token_is_asked_for_anonymously() {
    let server = behind_bearer(|_, out| answer(out, 200, &[("content-type", media::OCI_MANIFEST)], MANIFEST));
    repository(&server, Access::Pull, None).manifest("v1").expect("the manifest");
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| !seen.target.starts_with("/token") || seen.header("authorization").is_none())
    );
}

#[test]
fn refused_credentials_are_sent_once_and_end_with_the_registrys_words() {
    let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"go away"}]}"#;
    let server = Scripted::start(move |_, _, out| {
        answer(out, 401, &[("www-authenticate", "Basic realm=\"r\"")], body)
    });
    let (status, text) = exit(repository(&server, Access::Pull, Some(CREDS)).manifest("v1"));
    assert_eq!(status, Exit::Refused);
    assert!(text.contains("go away") && !text.contains("hunter2"), "{text}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn credentials_of_one_registry_are_not_given_to_a_second_one() {
    let server = elsewhere(MANIFEST);
    let network = registry::Network::new(support::options(Some(CREDS)));
    let first = "first.example/a".parse().expect("a reference");
    network.repository(&first, Access::Pull).expect("the first registry");
    let second = format!("{}/a", server.address).parse().expect("a reference");
    let (status, text) = exit(network.repository(&second, Access::Pull));
    assert_eq!(status, Exit::Usage, "{text}");
}

#[test]
fn credentials_are_not_sent_over_plain_http_beyond_this_machine() {
    let options = registry::Options { plain_http: Some(true), ..support::options(Some(CREDS)) };
    let reference = "registry.example/a".parse().expect("a reference");
    let (status, text) = exit(registry::Network::new(options).repository(&reference, Access::Pull));
    assert_eq!(status, Exit::Refused, "{text}");
}

fn upload(server: &Scripted, bytes: &'static [u8], claimed: &[u8]) -> Result<(), registry::Error> {
    let open = || -> Result<Box<dyn std::io::Read + Send>, registry::Error> { Ok(Box::new(bytes)) };
    let blob = Descriptor::of("x", claimed);
    let upload = registry::Upload {
        blob: &blob,
        open: &open,
        in_flight: false,
        progress: std::sync::Arc::new(|_| ()),
    };
    repository(server, Access::Push, Some(CREDS)).upload(&upload)
}

#[test]
fn bytes_that_are_not_the_blobs_never_arrive_whole() {
    let server = behind_basic(|seen, out| {
        let location = [("location", "/v2/some/app/blobs/uploads/1")];
        answer(out, if seen.method == "POST" { 202 } else { 201 }, &location, b"");
    });
    let (status, text) = exit(upload(&server, b"payload", b"Payload"));
    assert_eq!(status, Exit::Content, "{text}");
    let (status, text) = exit(upload(&server, b"payloa", b"payload"));
    assert_eq!(status, Exit::Content, "{text}");
    assert!(server.seen().iter().all(|seen| seen.method != "PUT" || !seen.whole), "{:?}", server.seen());
    upload(&server, b"payload", b"payload").expect("the right bytes go");
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "PUT" && seen.whole).count(), 1);
}

#[test]
fn an_answer_that_repeats_the_credentials_is_not_repeated() {
    let repeat = |seen: &support::Seen, out: &mut std::net::TcpStream| {
        let sent = seen.header("authorization").unwrap_or_default();
        let said = format!(r#"{{"errors":[{{"message":"{sent}, that is {CREDS}, may not read a/b"}}]}}"#);
        answer(out, 403, &[], said.as_bytes());
    };
    for server in [behind_basic(repeat), behind_bearer(repeat)] {
        let (status, text) = exit(repository(&server, Access::Pull, Some(CREDS)).manifest("v1"));
        assert_eq!(status, Exit::Refused, "{text}");
        assert!(text.contains("may not read a/b"), "{text}");
        let own = if text.contains("Basic") { &SECRETS[..2] } else { &SECRETS[2..3] };
        assert!(own.iter().all(|secret| !text.contains(secret)), "{text}");
    }
}
