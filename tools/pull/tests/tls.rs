//! Encryption: certificates are verified, always, and nothing is sent without where it was promised.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{World, needs};

/// A docker-registry that speaks TLS only, with a certificate for `names` from its own authority.
struct Secure {
    child: Child,
    address: String,
    authority: PathBuf,
    log: PathBuf,
}

impl Secure {
    fn start(world: &World, names: &str) -> Self {
        let dir = world.path("tls");
        std::fs::create_dir_all(&dir).expect("a directory");
        certificates(&dir, names);
        let address =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
        let config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: false}}}}\nstorage: {{inmemory: {{}}}}\nhttp:\n  addr: {address}\n  \
             tls: {{certificate: {0}/leaf.pem, key: {0}/leaf.key}}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).expect("a configuration");
        let log = dir.join("log");
        let out = std::fs::File::create(&log).expect("a log");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(out.try_clone().expect("a descriptor"))
            .stderr(out)
            .stdin(Stdio::null())
            .spawn()
            .expect("docker-registry runs");
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "{}", std::fs::read_to_string(&log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, address, authority: dir.join("ca.pem"), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn certificates(dir: &Path, names: &str) {
    let script = format!(
        "cd {} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 9 -subj /CN=ca &&
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf &&
         printf 'subjectAltName={names}\\nbasicConstraints=CA:FALSE\\n' >ext &&
         openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile ext -out leaf.pem",
        dir.display()
    );
    let made = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn a_registry_whose_authority_is_known_is_spoken_to_over_tls() {
    needs!(Program("docker-registry"), Program("openssl"));
    let mut world = World::new();
    let secure = Secure::start(&world, "DNS:localhost,IP:127.0.0.1");
    world.set("SSL_CERT_FILE", &secure.authority.display().to_string());
    let name = format!("{}/app:v1", secure.address);
    world.tool("oci-pull", &["--plain-http=false", &name]).fails(3).says("manifest unknown");
    assert!(secure.log().contains("\"GET /v2/app/manifests/v1 "), "{}", secure.log());
}

#[test]
fn unknown_authorities_and_other_names_are_refused_at_once_and_nothing_is_sent() {
    needs!(Program("docker-registry"), Program("openssl"));
    for (names, known) in [("DNS:localhost,IP:127.0.0.1", false), ("DNS:registry.example", true)] {
        let mut world = World::new();
        let secure = Secure::start(&world, names);
        if known {
            world.set("SSL_CERT_FILE", &secure.authority.display().to_string());
        }
        let name = format!("{}/app:v1", secure.address);
        let begun = Instant::now();
        let outcome = world.tool("oci-pull", &["--plain-http=false", "--creds", "me:hunter2", &name]);
        let outcome = outcome.fails(5).says("certificate").says("roots");
        assert_eq!(outcome.error_line()["exit"], 5);
        assert!(begun.elapsed() < Duration::from_secs(2), "it was not tried again");
        assert!(!secure.log().contains("GET"), "{}", secure.log());
    }
}

#[test]
fn a_registry_without_tls_gets_nothing_where_tls_was_promised() {
    let world = World::new();
    let server = testkit::http::Server::start(|_| testkit::http::Response::status(200));
    let name = format!("{}/app:v1", server.address());
    world.tool("oci-pull", &["--plain-http=false", "--retry", "0", "--creds", "me:hunter2", &name]).fails(5);
    assert!(server.seen().iter().all(|seen| !format!("{seen:?}").contains("hunter2")));
    assert!(server.seen().iter().all(|seen| seen.method != "GET"), "{:?}", server.seen());
}
