//! The canonical form of a JSON value, RFC 8785, so that equal values have equal bytes and one digest.

use serde_json::Value;

/// A value whose canonical form is not implemented: a number that is no integer of at most 53 bits.
///
/// RFC 8785 writes numbers as ECMAScript does; nothing here has fractions, so they are refused instead of guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("number {0} has no canonical form here: only integers of at most 53 bits have")]
pub struct NotCanonical(String);

/// The largest integer that ECMAScript's numbers hold exactly (RFC 8785, section 3.2.2.3).
const LARGEST: u64 = (1 << 53) - 1;

/// The RFC 8785 bytes of `value`.
///
/// # Errors
/// [`NotCanonical`] for a fraction or an integer beyond 53 bits.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if size.is_none_or(|size| size > LARGEST) {
                return Err(NotCanonical(number.to_string()));
            }
            out.extend(number.to_string().into_bytes());
        }
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            // By UTF-16 code units, not by bytes: section 3.2.3.
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (position, (name, member)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                out.extend(Value::from(name.as_str()).to_string().into_bytes());
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
        // serde_json escapes strings exactly as section 3.2.2.2 asks: short forms, \u00xx in lower case, nothing else.
        other => out.extend(other.to_string().into_bytes()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).expect("canonical")).expect("UTF-8")
    }

    #[test]
    fn members_are_sorted_and_nothing_is_spaced() {
        assert_eq!(
            text(&json!({"b": [1, -2, null], "a": {"z": true, "y": "x"}})),
            r#"{"a":{"y":"x","z":true},"b":[1,-2,null]}"#
        );
    }

    #[test]
    fn the_example_of_the_rfc_sorts_by_utf16() {
        let value =
            json!({"\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7});
        let keys =
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}";
        assert_eq!(text(&value), keys);
    }

    #[test]
    fn strings_are_escaped_as_ecmascript_does() {
        assert_eq!(
            text(&json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/")),
            "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\""
        );
    }

    #[test]
    fn numbers_that_would_be_rounded_are_refused() {
        assert!(canonical(&json!(1.5)).is_err());
        assert!(canonical(&json!(1_u64 << 53)).is_err());
        assert_eq!(text(&json!((1_u64 << 53) - 1)), "9007199254740991");
    }
}
