//! Names for containers that got none: two words.

use cli::Failure;
use descriptor::Exit;

const FIRST: [&str; 64] = [
    "agile", "amber", "apt", "bold", "brave", "brief", "bright", "brisk", "calm", "candid", "clean", "clear",
    "close", "cosy", "crisp", "deep", "dry", "eager", "early", "easy", "even", "fair", "fast", "fine",
    "firm", "fond", "frank", "fresh", "full", "gentle", "glad", "grand", "great", "keen", "kind", "large",
    "late", "light", "live", "loud", "lucid", "merry", "mild", "neat", "new", "noble", "open", "plain",
    "prime", "proud", "pure", "quick", "quiet", "rapid", "ready", "rich", "round", "sharp", "sound",
    "steady", "still", "sunny", "swift", "warm",
];

const SECOND: [&str; 64] = [
    "acorn", "anchor", "apple", "ash", "badger", "barley", "basin", "beech", "birch", "bridge", "brook",
    "cedar", "clover", "cliff", "cove", "crane", "creek", "delta", "dune", "eagle", "elm", "falcon", "fern",
    "field", "finch", "fjord", "forest", "gale", "garden", "glacier", "grove", "harbour", "hazel", "heron",
    "hill", "island", "ivy", "juniper", "lagoon", "lake", "larch", "lark", "maple", "marsh", "meadow",
    "mill", "moss", "oak", "ocean", "orchid", "otter", "pine", "plum", "pond", "reef", "ridge", "river",
    "robin", "sparrow", "stone", "summit", "thistle", "valley", "willow",
];

/// How often words are drawn before a number is added to them.
pub(crate) const DRAWS: u32 = 8;

/// Draws a name. After [`DRAWS`] that were taken, `attempt` counting from 0, a number makes it longer.
pub(crate) fn draw(attempt: u32) -> Result<String, Failure> {
    let mut random = [0_u8; 4];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    if filled != Ok(random.len()) {
        return Err(Failure::new(Exit::Other, "a name for the container", "the kernel has no random bytes"));
    }
    let words = format!("{}-{}", FIRST[usize::from(random[0]) % 64], SECOND[usize::from(random[1]) % 64]);
    if attempt < DRAWS {
        return Ok(words);
    }
    Ok(format!("{words}-{}", u16::from_le_bytes([random[2], random[3]])))
}

/// Puts the line's number and platform into a name that asks for them.
pub(crate) fn fill(name: &str, n: usize, platform: Option<&descriptor::Platform>) -> String {
    let platform = platform.map(|p| p.to_string().replace('/', "-")).unwrap_or_default();
    cli::fill_places(name, &[("n", &n.to_string()), ("platform", &platform)])
}

/// Whether a name differs from line to line.
pub(crate) fn is_template(name: &str) -> bool {
    cli::has_place(name, &["n", "platform"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_names_are_names() {
        for attempt in 0..DRAWS * 4 {
            let name = draw(attempt).expect("a name");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
    }

    #[test]
    fn templates_are_filled() {
        let platform = "linux/arm/v7".parse().ok();
        assert_eq!(fill("web-{n}-{platform}", 2, platform.as_ref()), "web-2-linux-arm-v7");
        assert!(is_template("a{n}") && !is_template("a"));
    }
}
