//! `--filter KEY=VALUE`: several of one key are alternatives, several keys are conditions, as in docker; all labels count.

use std::collections::BTreeMap;

use cli::Failure;

/// Filters by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(BTreeMap<&'static str, Vec<String>>);

impl Filters {
    /// Reads them; the keys are those that the list understands.
    ///
    /// # Errors
    /// Exit 2 for another key.
    pub(crate) fn parse(texts: &[String], keys: &[&'static str]) -> Result<Self, Failure> {
        let mut all: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for text in texts {
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("--filter {text}"), "KEY=VALUE is wanted"))?;
            let known = keys.iter().find(|known| **known == key.trim().to_lowercase()).ok_or_else(|| {
                Failure::usage(format!("--filter {text}"), format!("this list knows {}", keys.join(", ")))
            })?;
            all.entry(known).or_default().push(value.trim().into());
        }
        Ok(Self(all))
    }

    /// The values of a key.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a key stands in it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether a key does not stand in it, or one of its values fits.
    pub(crate) fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).iter().any(|value| fits(value))
    }

    /// Whether all labels are there, each `KEY` or `KEY=VALUE`.
    pub(crate) fn labels<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.values("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => get(key) == Some(value),
            None => get(wanted).is_some(),
        })
    }

    /// Refuses values that are not among these words.
    ///
    /// # Errors
    /// Exit 2.
    pub(crate) fn check(&self, key: &str, words: &[&str]) -> Result<(), Failure> {
        match self.values(key).iter().find(|value| !words.contains(&value.as_str())) {
            Some(value) => {
                Err(Failure::usage(format!("--filter {key}={value}"), format!("it is {}", words.join(", "))))
            }
            None => Ok(()),
        }
    }
}

/// Whether a container's name has this in it; `^` and `$` stand for its ends, and docker's slash before it may be there.
pub(crate) fn name_fits(name: &str, pattern: &str) -> bool {
    let (begins, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (ends, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let inner = rest.strip_prefix('/').unwrap_or(rest);
    match (begins, ends) {
        (true, true) => name == inner,
        (true, false) => name.starts_with(inner),
        (false, true) => name.ends_with(inner),
        (false, false) => name.contains(inner),
    }
}

/// Whether a text is what a shell's pattern says; `*` and `?` stand for no slash.
pub(crate) fn glob(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut by) = (0, 0);
    // Where the last star stands, and how far it has reached.
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        let next = pattern.get(by).copied();
        if next == Some('*') {
            star = Some((by, at));
            by += 1;
        } else if next == Some(text[at]) || (next == Some('?') && text[at] != '/') {
            at += 1;
            by += 1;
        } else if let Some((stood, reached)) = star.filter(|(_, reached)| text[*reached] != '/') {
            star = Some((stood, reached + 1));
            by = stood + 1;
            at = reached + 1;
        } else {
            return false;
        }
    }
    pattern[by..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_and_conditions() {
        let texts = ["status=running", "status=paused", "label=a", "label=b=c"].map(String::from);
        let filters = Filters::parse(&texts, &["status", "label"]).expect("filters");
        assert!(
            filters.any("status", |value| value == "paused") && !filters.any("status", |value| value == "x")
        );
        assert!(filters.any("name", |_| false), "a key that was not given is no condition");
        let labels = |pairs: &'static [(&str, &str)]| {
            move |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
        };
        assert!(filters.labels(labels(&[("a", "1"), ("b", "c")])));
        assert!(!filters.labels(labels(&[("a", "1"), ("b", "d")])) && !filters.labels(labels(&[("b", "c")])));
        assert!(filters.check("status", &["running"]).is_err());
        for bad in ["status", "colour=red"] {
            assert_eq!(Filters::parse(&[bad.into()], &["status"]).expect_err(bad).exit(), 2);
        }
    }

    #[test]
    fn names_and_patterns() {
        for (pattern, fits) in [
            ("web", true),
            ("^web", true),
            ("^web$", false),
            ("^/web1$", true),
            ("b1$", true),
            ("^eb", false),
        ] {
            assert_eq!(name_fits("web1", pattern), fits, "{pattern}");
        }
        for (text, pattern, fits) in [
            ("app:1", "app:*", true),
            ("user/app:1", "*:1", false),
            ("user/app:1", "*/app:?", true),
            ("abcabd", "*abd", true),
            ("app", "app", true),
            ("app", "ap", false),
            ("", "*", true),
        ] {
            assert_eq!(glob(text, pattern), fits, "{text} {pattern}");
        }
    }
}
