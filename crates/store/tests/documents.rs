//! Manifests, indexes and configurations: what is refused, and with which words.

use descriptor::{Classify, Digest, Exit, Platform, media};
use store::{Document, Error, Store, chain_ids};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn descriptor(media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":7}}"#)
}

fn manifest(more: &str) -> String {
    let (config, layer) = (descriptor(media::OCI_CONFIG), descriptor(media::OCI_LAYER_GZIP));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{layer}]{more}}}"#,
        media::OCI_MANIFEST
    )
}

fn index(entries: &str) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entries}]}}"#, media::OCI_INDEX)
}

fn entry(platform: &str) -> String {
    let (os, architecture) = platform.split_once('/').expect("os/arch");
    let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
    let variant = if variant.is_empty() { String::new() } else { format!(r#","variant":"{variant}""#) };
    let digest = Digest::of(platform.as_bytes());
    format!(
        r#"{{"mediaType":"{}","digest":"{digest}","size":7,"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#,
        media::OCI_MANIFEST
    )
}

#[test]
fn documents_that_could_be_taken_for_two_things_are_refused() {
    let ok = manifest("");
    let cases = [
        ("both kinds", manifest(r#","manifests":[]"#), "at once"),
        ("a member twice", manifest(r#","layers":[]"#), "stands twice"),
        ("a deep member twice", ok.replace(r#""size":7}"#, r#""size":7,"size":8}"#), "stands twice"),
        ("a case variant", manifest(r#","Layers":[]"#), "\"Layers\""),
        ("a deep case variant", ok.replace(r#""digest""#, r#""Digest""#), "\"Digest\""),
        ("a foreign type", ok.replace("image.manifest", "image.artifact"), "no image manifest"),
        ("an index's type", ok.replace("image.manifest", "image.index"), "does not fit"),
        ("schema 1", ok.replace(r#""schemaVersion":2"#, r#""schemaVersion":1"#), "schemaVersion"),
        ("signed schema 1", manifest(r#","fsLayers":[]"#), "schema 1"),
        ("a negative size", ok.replace(r#""size":7"#, r#""size":-7"#), "invalid value"),
        ("a fraction", ok.replace(r#""size":7"#, r#""size":7.5"#), "invalid type"),
        ("a digest that climbs", ok.replace(HEX, "../../../canary/f"), "64 lower-case"),
        ("an upper-case digest", ok.replace(HEX, &HEX.to_uppercase()), "64 lower-case"),
        ("63 digits", ok.replace(HEX, &HEX[1..]), "64 lower-case"),
        ("another algorithm", ok.replace("sha256:", "md5:"), "sha256"),
        ("no layers", ok.replace(r#""layers""#, r#""strata""#), "without layers"),
        ("no JSON", "<html>".into(), "expected value"),
        ("a tail", format!("{ok} {{}}"), "trailing"),
        ("nothing", String::new(), "EOF"),
        ("a list", "[]".into(), "invalid"),
        ("deep nesting", "[".repeat(100_000), "recursion"),
    ];
    for (case, text, why) in cases {
        let error = Document::parse(text.as_bytes(), None).expect_err(case);
        assert_eq!(error.exit(), Exit::Content, "{case}");
        assert!(error.to_string().contains(why), "{case}: {error}");
    }
    assert!(Document::parse(ok.as_bytes(), None).is_ok());
}

#[test]
fn a_media_type_must_be_what_the_descriptor_says() {
    let ok = manifest("");
    assert!(Document::parse(ok.as_bytes(), Some(media::OCI_MANIFEST)).is_ok());
    for wrong in [media::OCI_INDEX, media::DOCKER_MANIFEST, "text/html"] {
        assert!(Document::parse(ok.as_bytes(), Some(wrong)).is_err(), "{wrong}");
    }
    let without = ok.replace(&format!(r#""mediaType":"{}","#, media::OCI_MANIFEST), "");
    let document =
        Document::parse(without.as_bytes(), Some(media::OCI_MANIFEST)).expect("OCI's may be absent");
    assert_eq!(document.media_type(), media::OCI_MANIFEST);
    assert!(Document::parse(without.as_bytes(), Some(media::OCI_INDEX)).is_err());
}

#[test]
fn annotations_may_have_any_name() {
    let text = manifest(r#","annotations":{"Config":"x","LAYERS":"y"}"#);
    assert!(Document::parse(text.as_bytes(), None).is_ok());
}

#[test]
fn an_index_gives_the_platforms_image_or_lists_what_it_has() {
    let text = index(
        &["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"]
            .map(entry)
            .join(","),
    );
    let Document::Index(index) = Document::parse(text.as_bytes(), None).expect("parse") else {
        panic!("index")
    };
    let choose = |platform: &str| index.choose(&platform.parse::<Platform>().expect("platform"));
    for (wanted, got) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm64", "linux/arm64/v8"),
    ] {
        assert_eq!(choose(wanted).expect(wanted).digest, Digest::of(got.as_bytes()), "{wanted}");
    }
    for wanted in ["linux/s390x", "windows/amd64", "linux/arm/v5", "linux/amd64/v3"] {
        let error = choose(wanted).expect_err(wanted);
        assert_eq!(error.exit(), Exit::NotFound);
        assert!(error.to_string().contains("linux/arm/v6, linux/arm/v7"), "{error}");
        assert!(!error.to_string().contains("unknown"), "{error}");
    }
}

fn put_image(store: &Store, config: &str, layers: usize) -> Digest {
    let digest = store.put_document(config.as_bytes()).expect("put");
    let layers = vec![descriptor(media::OCI_LAYER); layers].join(",");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{digest}","size":{}}},"layers":[{layers}]}}"#,
        media::OCI_CONFIG,
        config.len()
    );
    store.put_document(manifest.as_bytes()).expect("put")
}

fn config(diff_ids: &[&str]) -> String {
    let ids: Vec<String> = diff_ids.iter().map(|id| format!("{id:?}")).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":null,"Volumes":null}},"history":[],"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
}

#[test]
fn an_image_has_as_many_diff_ids_as_layers() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(dir.path())).expect("store");
    let id = format!("sha256:{HEX}");
    let image = put_image(&store, &config(&[&id, &id]), 2);
    let image = store.image(&image, None).expect("image");
    assert_eq!(image.diff_ids.len(), 2);
    assert_eq!(image.chain_id(), chain_ids(&image.diff_ids).pop());
    assert_eq!(image.platform.to_string(), "linux/amd64");
    for (config, layers, why) in [
        (config(&[&id]), 2, "1 diff_ids for 2 layers"),
        (config(&["sha256:x"]), 1, "diff_ids"),
        (config(&["../x"]), 1, "diff_ids"),
        ("{}".into(), 0, "missing field"),
        ("not JSON".into(), 0, "expected"),
        ("[]".into(), 0, "object"),
        (config(&[]).replace("\"os\"", "\"OS\""), 0, "\"OS\""),
        (config(&[&id]).replace("\"diff_ids\"", "\"Diff_IDs\""), 1, "\"Diff_IDs\""),
        (config(&[]).replace("\"layers\"", "\"snapshot\""), 0, "rootfs.type"),
    ] {
        let image = put_image(&store, &config, layers);
        let error = store.image(&image, None).expect_err(&config);
        assert_eq!(error.exit(), Exit::Content);
        assert!(error.to_string().contains(why), "{config}: {error}");
    }
}

#[test]
fn an_image_without_an_index_is_of_its_own_platform_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(dir.path())).expect("store");
    let image = put_image(&store, &config(&[]), 0);
    let of = |platform: &str| store.image(&image, Some(&platform.parse().expect("platform")));
    of("linux/amd64").expect("its own");
    let error = of("linux/arm64").expect_err("another");
    assert_eq!(error.exit(), Exit::NotFound);
    assert_eq!(error.to_string(), "no image for linux/arm64; there is linux/amd64");
}

#[test]
fn documents_are_bounded_and_hashed_when_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(dir.path())).expect("store");
    let large = vec![b' '; (4 << 20) + 1];
    assert!(matches!(store.put_document(&large), Err(Error::TooLarge { .. })));
    let at = |digest: &Digest| dir.path().join("blobs/sha256").join(digest.hex());
    std::fs::write(at(&Digest::of(&large)), &large).expect("write");
    assert!(matches!(store.image(&Digest::of(&large), None), Err(Error::TooLarge { .. })));
    let image = put_image(&store, &config(&[]), 0);
    let other = manifest("");
    std::fs::write(at(&image), other).expect("another valid manifest under this name");
    let error = store.image(&image, None).expect_err("swapped");
    assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
    assert!(matches!(store.image(&Digest::of(b"none"), None), Err(Error::NoBlob(_))));
}

#[test]
fn indexes_nested_without_end_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(dir.path())).expect("store");
    let mut at = put_image(&store, &config(&[]), 0);
    let mut kind = media::OCI_MANIFEST;
    for depth in 0..10 {
        let size = store.has_blob(&at).expect("has").expect("there");
        let text = index(&format!(r#"{{"mediaType":"{kind}","digest":"{at}","size":{size}}}"#));
        at = store.put_document(text.as_bytes()).expect("put");
        kind = media::OCI_INDEX;
        assert_eq!(store.image(&at, None).is_ok(), depth < 4, "{depth}");
    }
}

#[test]
fn an_entry_of_another_size_than_its_manifest_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::open(Some(dir.path())).expect("store");
    let image = put_image(&store, &config(&[]), 0);
    let text = index(&format!(r#"{{"mediaType":"{}","digest":"{image}","size":7}}"#, media::OCI_MANIFEST));
    let at = store.put_document(text.as_bytes()).expect("put");
    assert!(matches!(store.image(&at, None), Err(Error::WrongSize { wanted: 7, .. })));
}

#[test]
fn chain_ids_are_the_specifications() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let ab = Digest::of(format!("{a} {b}").as_bytes());
    assert_eq!(chain_ids(&[]), []);
    assert_eq!(chain_ids(&[a, b, b]), [a, ab, Digest::of(format!("{ab} {b}").as_bytes())]);
}
