//! Places in a word of the command line that serves several lines: `{n}`, `{name}`, `{platform}`.

/// Whether `text` has one of these places, `n` for `{n}`, and so differs from line to line.
pub fn has_place(text: &str, places: &[&str]) -> bool {
    places.iter().any(|place| text.contains(&format!("{{{place}}}")))
}

/// Fills the places of `text`. What is filled in is not looked at again, and other braces stay.
pub fn fill_places(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let (before, after) = rest.split_at(start);
        filled.push_str(before);
        let value = values.iter().find_map(|(place, value)| {
            let end = after.strip_prefix('{')?.strip_prefix(place)?.strip_prefix('}')?;
            Some((*value, end))
        });
        let (value, end) = value.unwrap_or(after.split_at(1));
        filled.push_str(value);
        rest = end;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_once_and_other_braces_stay() {
        for (text, want) in [
            ("a-{n}-{name}", "a-2-{n}"),
            ("{{n}}", "{2}"),
            ("{platform}{", "{platform}{"),
            ("{n", "{n"),
            ("", ""),
        ] {
            assert_eq!(fill_places(text, &[("n", "2"), ("name", "{n}")]), want, "{text}");
        }
    }

    #[test]
    fn a_word_differs_from_line_to_line_where_it_has_a_place() {
        assert!(
            has_place("web-{n}", &["n"]) && !has_place("web-{name}", &["n"]) && !has_place("{ n }", &["n"])
        );
    }
}
