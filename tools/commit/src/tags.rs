//! The names of the new images, one set for each line.

use cli::Failure;
use registry::Reference;

/// A name of several images has one of these places.
const PLACES: [&str; 3] = ["n", "name", "platform"];

/// True where one set of names cannot serve several images.
pub(crate) fn name_one_image(tags: &[String]) -> bool {
    tags.iter().any(|tag| !cli::has_place(tag, &PLACES))
}

/// What fills the places.
pub(crate) struct Place<'a> {
    /// Counts from 1.
    pub(crate) n: usize,
    /// The container's name.
    pub(crate) name: &'a str,
    /// os/arch[/variant].
    pub(crate) platform: &'a str,
}

/// The names of one image, normalised.
pub(crate) fn references(tags: &[String], place: &Place<'_>) -> Result<Vec<Reference>, Failure> {
    let (n, platform) = (place.n.to_string(), place.platform.replace('/', "-"));
    let values = [("n", &*n), ("name", place.name), ("platform", &*platform)];
    tags.iter().map(|tag| reference(&cli::fill_places(tag, &values))).collect()
}

fn reference(tag: &str) -> Result<Reference, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::usage("--tag", why);
    let reference: Reference = tag.parse().map_err(|e| wrong(&e))?;
    match reference.digest() {
        Some(_) => Err(wrong(&format_args!("{tag:?} has a digest, which is the image's own to have"))),
        None => Ok(reference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_normalised() {
        let place = Place { n: 2, name: "web", platform: "linux/arm/v7" };
        let tags = ["app", "h.example/a/{name}:{platform}", "x:{n}"].map(String::from);
        let names = references(&tags, &place).expect("names");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let want = ["docker.io/library/app:latest", "h.example/a/web:linux-arm-v7", "docker.io/library/x:2"];
        assert_eq!(names, want);
        assert!(name_one_image(&tags));
        assert!(!name_one_image(&tags[1..]));
    }

    #[test]
    fn what_is_no_name_of_a_new_image_is_refused() {
        let place = Place { n: 1, name: "a", platform: "linux/amd64" };
        let digest = format!("app@sha256:{}", "0".repeat(64));
        for tag in ["UPPER", "a:b:c:d", "", &digest] {
            assert_eq!(references(&[tag.into()], &place).expect_err(tag).exit(), 2);
        }
    }
}
