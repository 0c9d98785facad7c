//! The long form of a mount: `type=bind,src=/a,"dst=/with,comma",ro`.

/// The fields of a mount, taken out one by one; of a field that stands twice the last counts.
#[derive(Debug, Clone)]
pub struct Fields(Vec<(String, Option<String>)>);

impl Fields {
    /// Reads keys, in either case, and values; a field in double quotes may have commas in it, and a quote twice for one.
    ///
    /// # Errors
    /// A quote that is not closed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut list = vec![String::new()];
        let mut quoted = false;
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let Some(field) = list.last_mut() else { break };
            match letter {
                '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
                '"' if quoted => quoted = false,
                '"' if field.is_empty() => quoted = true,
                ',' if !quoted => list.push(String::new()),
                letter => field.push(letter),
            }
        }
        if quoted {
            return Err(format!("a quote is not closed: {text:?}"));
        }
        let pair = |field: String| match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_string())),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        Ok(Self(list.into_iter().map(pair).collect()))
    }

    /// Takes what these keys, which mean the same, say.
    ///
    /// # Errors
    /// A key without a value.
    pub fn text(&mut self, keys: &[&str]) -> Result<Option<String>, String> {
        let mut found = None;
        for (key, value) in self.take(keys) {
            let value = value.filter(|value| !value.is_empty());
            found = Some(value.ok_or_else(|| format!("invalid field {key:?} must be a key=value pair"))?);
        }
        Ok(found)
    }

    /// Takes a field that is true where it has no value.
    ///
    /// # Errors
    /// A value that is neither true nor false.
    pub fn truth(&mut self, keys: &[&str]) -> Result<Option<bool>, String> {
        let mut found = None;
        for (key, value) in self.take(keys) {
            found = Some(match value.as_deref() {
                None | Some("true" | "1") => true,
                Some("false" | "0") => false,
                Some(other) => return Err(format!("invalid value for {key}: {other}")),
            });
        }
        Ok(found)
    }

    /// Takes a number, such as a user's.
    ///
    /// # Errors
    /// A value that is none.
    pub fn number(&mut self, key: &str) -> Result<Option<u32>, String> {
        let Some(text) = self.text(&[key])? else { return Ok(None) };
        // The highest one means "no change" to chown(2).
        let number = text.parse().ok().filter(|&number| number != u32::MAX);
        number.map(Some).ok_or_else(|| format!("invalid value for {key}: {text}"))
    }

    /// Takes the permission bits of a file, in octal digits.
    ///
    /// # Errors
    /// A value that has more or other bits.
    pub fn mode(&mut self, key: &str) -> Result<Option<u32>, String> {
        let Some(text) = self.text(&[key])? else { return Ok(None) };
        let mode = u32::from_str_radix(&text, 8).ok().filter(|&mode| mode <= 0o7777);
        mode.map(Some).ok_or_else(|| format!("invalid value for {key}: {text}"))
    }

    /// Takes the path in the container.
    ///
    /// # Errors
    /// There is none.
    pub fn target(&mut self) -> Result<String, String> {
        self.text(&["target", "dst", "destination"])?.ok_or_else(|| "target is required".into())
    }

    /// Gives a field another name, where another program calls it so.
    pub fn rename(&mut self, from: &str, to: &str) {
        for (key, _) in self.0.iter_mut().filter(|(key, _)| key == from) {
            *key = to.into();
        }
    }

    /// The key that comes first of those that nobody took.
    pub fn first(&self) -> Option<String> {
        self.0.first().map(|(key, _)| key.clone())
    }

    /// Whatever nobody took is a mistake that must not pass as done.
    ///
    /// # Errors
    /// The key.
    pub fn end(&self) -> Result<(), String> {
        self.first().map_or(Ok(()), |key| Err(format!("unexpected key {key:?}")))
    }

    fn take(&mut self, keys: &[&str]) -> Vec<(String, Option<String>)> {
        self.0.extract_if(.., |(key, _)| keys.contains(&key.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_field_may_have_commas_and_the_last_of_a_key_counts() {
        let mut fields = Fields::parse(r#"type=bind,"src=/a,b""c",RO,src=/z"#).expect("fields");
        assert_eq!(fields.text(&["type"]), Ok(Some("bind".into())));
        assert_eq!(fields.truth(&["readonly", "ro"]), Ok(Some(true)));
        assert_eq!(fields.text(&["src"]), Ok(Some("/z".into())));
        assert_eq!((fields.end(), fields.text(&["src"])), (Ok(()), Ok(None)));
        let mut fields = Fields::parse(r#""src=/a,b""c""#).expect("fields");
        assert_eq!(fields.text(&["src"]), Ok(Some("/a,b\"c".into())));
        Fields::parse(r#""a"#).expect_err("open");
    }

    #[test]
    fn numbers_and_modes_have_their_bounds() {
        let fields = |text: &str| Fields::parse(text).expect("fields");
        assert_eq!(fields("mode=0440").mode("mode"), Ok(Some(0o440)));
        assert_eq!(fields("uid=1000").number("uid"), Ok(Some(1000)));
        for text in ["mode=9", "mode=10000", "mode=", "mode"] {
            fields(text).mode("mode").expect_err(text);
        }
        for text in ["uid=-1", "uid=4294967295", "uid=root"] {
            fields(text).number("uid").expect_err(text);
        }
    }
}
