//! Ten thousand archives with something wrong in them: each is unpacked or refused, nothing panics, hangs or reaches out.
//!
//! The seeds are the archives of the tables and a few of every kind of member; the changes come from one number, so that
//! each run has the same ones. Without OCIPIPE_FULL the run ends where its time does.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::Scene;
use descriptor::{Classify, Exit};
use layer::{Encoding, Flat, Limits, Options};
use testkit::image::Packing;
use testkit::tarsmith::{smith, tables};

/// How many there are.
const MUTANTS: usize = 10_000;

/// How long the bounded run goes on.
const BOUNDED: Duration = Duration::from_secs(20);

/// A mutant that takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);

/// After how many mutants the canary and what lies beside the trees are looked at.
const LOOK: usize = 50;

/// One of each kind of member, among links that lead to the canary.
const SEED: &str = r#"
dir d mode=2755 uid=3
file d/f data="content" mode=4755 uid=3 mtime=7 xattr.user.k=v
link esc $canary
file esc/p data=x
link x ../canary/f
hard h d/f
char c 1:3
fifo p
whiteout d/gone
opaque d
gnu-longname "n"*120
file short data="abc"
pax path="p"*120 mtime=5.5
file long data="abc"
sparse gnu s0 real=9K at=0:abc at=5K:def at=6K:x at=7K:y at=8K:z
sparse 0.1 s1 real=9K at=0:abc at=5K:def
sparse 1.0 s2 real=9K at=0:abc at=5K:def
global comment=c uid=5
file last data="x"*700
"#;

/// The generator xorshift64*: enough for choosing places.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

/// The archives that mutants are made of.
fn seeds(prey: &str) -> Vec<Vec<u8>> {
    let variables = [("canary", prey)];
    let mut seeds = vec![smith(SEED, &variables).expect("a script")];
    for (_, cases) in tables(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")) {
        for case in cases {
            seeds.extend(case.layers(&variables).expect("a script"));
        }
    }
    // Large ones cost time and have no more places worth a change.
    seeds.retain(|seed| !seed.is_empty() && seed.len() <= 64 << 10);
    seeds
}

/// The checksums of all blocks that look like headers made right: else most changes would end there.
fn sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// An archive with one to four changes.
fn mutant(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..=dice.roll(4) {
        change(&mut bytes, seeds, dice);
    }
    if dice.roll(8) > 0 {
        sums(&mut bytes);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    const FIELDS: [usize; 14] = [0, 1, 100, 108, 116, 124, 130, 136, 156, 157, 257, 263, 345, 482];
    const TEXTS: [&[u8]; 10] = [
        b"../canary/f",
        b"/",
        b"..",
        b".wh.",
        b".wh..wh..opq",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80",
        b"\0",
        b"7777777",
        b"d/f",
    ];
    if bytes.is_empty() {
        return;
    }
    let blocks = bytes.len().div_ceil(512);
    let at = match dice.roll(2) {
        0 => dice.roll(bytes.len()),
        _ => (dice.roll(blocks) * 512 + FIELDS[dice.roll(FIELDS.len())]).min(bytes.len() - 1),
    };
    match dice.roll(8) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = dice.roll(256) as u8,
        2 => bytes[at] = b"012345671234567LKxgSDVZ"[dice.roll(23)],
        3 | 4 => {
            let text = TEXTS[dice.roll(TEXTS.len())];
            let end = (at + text.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&text[..end - at]);
        }
        5 => bytes.truncate(at),
        6 => {
            // Blocks of another archive in between.
            let other = &seeds[dice.roll(seeds.len())];
            let from = dice.roll(other.len().div_ceil(512)) * 512;
            let part = &other[from.min(other.len())..(from + 1024).min(other.len())];
            let at = (at / 512 * 512).min(bytes.len());
            bytes.splice(at..at, part.iter().copied());
        }
        _ => {
            let from = at / 512 * 512;
            bytes.drain(from..(from + 512).min(bytes.len()));
        }
    }
}

/// A mutant as one of the encodings, every second compressed one with its framing changed too.
fn framed(bytes: Vec<u8>, dice: &mut Dice) -> (Encoding, Vec<u8>) {
    let (encoding, packing) = match dice.roll(4) {
        0 => (Encoding::Gzip, Packing::Gzip),
        1 => (Encoding::Zstd, Packing::Zstd),
        _ => return (Encoding::None, bytes),
    };
    let mut packed = packing.pack(&bytes);
    if dice.roll(2) == 0 {
        let head = [12, 64, usize::MAX][dice.roll(3)];
        let at = dice.roll(packed.len().min(head));
        match dice.roll(3) {
            0 => packed[at] ^= 1 << dice.roll(8),
            1 => packed.truncate(at),
            _ => packed.extend_from_within(at..),
        }
    }
    (encoding, packed)
}

/// Unpacks a mutant in both forms; an error is one of content, or of the kernel's own for what it asks.
fn unpack(scene: &Scene, n: usize, encoding: Encoding, bytes: &[u8]) {
    let limits = Limits { bytes: 64 << 20, entries: 10_000, ratio: 1000, ratio_from: 1 << 20, depth: 100 };
    let options = Options { limits };
    let (overlay, flat) = (scene.tree(&format!("o{n}")), scene.tree(&format!("f{n}")));
    let judge = |result: Result<(), layer::Error>| match result.map_err(|error| (error.exit(), error)) {
        Err((exit @ (Exit::Space | Exit::Usage), error)) => panic!("mutant {n}: {exit:?}: {error}"),
        other => drop(other),
    };
    judge(layer::unpack(bytes, encoding, &common::open(&overlay), &options).map(drop));
    let root = common::open(&flat);
    judge(Flat::new(&root).and_then(|mut tree| {
        tree.apply(bytes, encoding, &options)?;
        tree.finish()
    }));
    for tree in [overlay, flat] {
        std::fs::remove_dir_all(tree).expect("a tree can be removed");
    }
}

/// Runs mutants from one number on until the last one or the end of time; returns how many.
fn run(until: Option<Instant>) -> usize {
    let scene = Scene::new();
    let seeds = seeds(&scene.prey());
    for n in 0..MUTANTS {
        if until.is_some_and(|until| Instant::now() > until) {
            return n;
        }
        DONE.store(n, Ordering::Relaxed);
        // Each has dice of its own: a number is enough to have it again.
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ ((n as u64 + 1) << 16));
        let bytes = mutant(&seeds, &mut dice);
        let (encoding, bytes) = framed(bytes, &mut dice);
        unpack(&scene, n, encoding, &bytes);
        if n % LOOK == 0 || n + 1 == MUTANTS {
            scene.assert_nothing_but_the_canary(n);
        }
    }
    MUTANTS
}

/// The mutant being unpacked.
static DONE: AtomicUsize = AtomicUsize::new(0);

#[test]
fn mutated_archives_are_unpacked_or_refused_and_nothing_else() {
    let until = std::env::var_os("OCIPIPE_FULL").is_none().then(|| Instant::now() + BOUNDED);
    let (sender, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let _ = sender.send(run(until));
    });
    let mut last = (usize::MAX, Instant::now());
    let count = loop {
        match ended.recv_timeout(Duration::from_secs(1)) {
            Ok(count) => break count,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let panic = worker.join().expect_err("it ended without a word");
                std::panic::resume_unwind(panic);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = DONE.load(Ordering::Relaxed);
                if now != last.0 {
                    last = (now, Instant::now());
                }
                assert!(last.1.elapsed() < HANGS, "mutant {now} hangs");
            }
        }
    };
    assert!(count > 100, "only {count} mutants in {BOUNDED:?}");
    println!("{count} mutants");
}
