//! `WWW-Authenticate`: what a registry that answers 401 asks for (RFC 9110, section 11.6.1).

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    params: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter by its lower-case name.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// More challenges than any registry sends; the rest is not read.
const CHALLENGE_LIMIT: usize = 16;

/// Reads all challenges of one header value. What cannot be read ends the list: an odd header is never fatal by itself.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    while challenges.len() <= CHALLENGE_LIMIT {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = take_token(rest);
        if word.is_empty() {
            break;
        }
        let after_spaces = after.trim_start_matches([' ', '\t']);
        match (after_spaces.strip_prefix('='), challenges.last_mut()) {
            // `name=value`: a parameter of the challenge before.
            (Some(value), Some(challenge)) => {
                let Some((value, after)) = take_value(value.trim_start_matches([' ', '\t'])) else { break };
                challenge.params.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                rest = after;
            }
        }
    }
    challenges
}

fn take_token(text: &str) -> (&str, &str) {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !token(c)).unwrap_or(text.len()))
}

fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Not a token by the grammar, but realms come unquoted too: up to the next separator.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(scheme: &str, params: &[(&str, &str)]) -> Challenge {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Challenge { scheme: scheme.to_owned(), params }
    }

    #[test]
    fn challenges_are_read_in_every_spelling_registries_use() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#;
        let bearer = challenge(
            "bearer",
            &[
                ("realm", "https://auth.docker.io/token"),
                ("service", "registry.docker.io"),
                ("scope", "repository:a:pull,push"),
            ],
        );
        let table = [
            (hub.to_owned(), vec![bearer.clone()]),
            (
                r#"Basic realm="Registry Realm""#.to_owned(),
                vec![challenge("basic", &[("realm", "Registry Realm")])],
            ),
            (format!("Basic realm=x, {hub}"), vec![challenge("basic", &[("realm", "x")]), bearer.clone()]),
            (format!("{hub}, Negotiate"), vec![bearer, challenge("negotiate", &[])]),
            (
                r#"BEARER Realm = "a\"b" , service=c"#.to_owned(),
                vec![challenge("bearer", &[("realm", "a\"b"), ("service", "c")])],
            ),
        ];
        for (header, expected) in table {
            assert_eq!(parse(&header), expected, "{header}");
        }
    }

    #[test]
    fn broken_challenges_end_the_list_and_nothing_else() {
        for header in ["", ",,,", "=", "realm=\"x\"", "\"", "Bearer realm=\"unclosed", "Bearer realm=\"x\\"] {
            assert!(parse(header).iter().all(|c| c.params.is_empty()), "{header}");
        }
        assert!(parse(&"a,".repeat(10_000)).len() <= CHALLENGE_LIMIT + 1);
    }
}
