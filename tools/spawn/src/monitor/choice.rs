//! Where the output of a run in the background is kept, as it was chosen.

use std::collections::BTreeMap;

use cli::Failure;

/// What keeps the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Driver {
    /// The container's log, in docker's form.
    JsonFile,
    /// Nothing.
    None,
}

/// How much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) driver: Driver,
    /// A file that has grown to this size gets a successor.
    pub(crate) max_bytes: Option<u64>,
    /// How many files there are, with the one that grows.
    pub(crate) max_files: u32,
}

/// An option of the log as it stands on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOption(String, String);

impl std::str::FromStr for LogOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("wanted KEY=VALUE")?;
        let mut choice = Choice::default();
        choice.set(key, value)?;
        Ok(Self(key.into(), value.into()))
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self { driver: Driver::JsonFile, max_bytes: None, max_files: 1 }
    }
}

impl Choice {
    /// What was chosen at a container's making, and for this run.
    pub(crate) fn of(
        made: &BTreeMap<String, String>,
        driver: Option<Driver>,
        options: &[LogOption],
    ) -> Result<Self, Failure> {
        let mut choice = Self::default();
        let all = made.iter().chain(options.iter().map(|LogOption(key, value)| (key, value)));
        for (key, value) in all {
            choice.set(key, value).map_err(|why| Failure::usage(format!("log option {key}={value}"), why))?;
        }
        choice.driver = driver.unwrap_or(choice.driver);
        if choice.max_files > 1 && choice.max_bytes.is_none() {
            let why = "max-file needs max-size: a file without an end has no successor";
            return Err(Failure::usage("--log-opt", why));
        }
        Ok(choice)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "driver" if value == "none" => self.driver = Driver::None,
            "driver" if value == "json-file" => self.driver = Driver::JsonFile,
            "max-size" if value == "-1" => self.max_bytes = None,
            "max-size" => match cli::units::bytes(value) {
                Ok(size) if size > 0 => self.max_bytes = Some(size),
                _ => return Err("max-size is a number of bytes, with k, m or g behind it, or -1".into()),
            },
            "max-file" => match value.parse() {
                Ok(files) if files > 0 => self.max_files = files,
                _ => return Err("max-file is a number from 1 on".into()),
            },
            _ => return Err(format!("{key}={value} is not supported; there are max-size and max-file")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_chooses_over_what_the_container_was_made_with() {
        let made = BTreeMap::from([("max-size".to_string(), "10".to_string())]);
        let options: Vec<LogOption> =
            ["max-size=2k", "max-file=3"].iter().map(|text| text.parse().expect("an option")).collect();
        let choice = Choice::of(&made, None, &options).expect("a choice");
        assert_eq!(choice, Choice { driver: Driver::JsonFile, max_bytes: Some(2048), max_files: 3 });
        assert_eq!(Choice::of(&made, Some(Driver::None), &[]).expect("a choice").driver, Driver::None);
        assert_eq!(Choice::of(&BTreeMap::new(), None, &options[1..]).expect_err("endless").exit(), 2);
        for wrong in
            ["max-size", "max-size=x", "max-size=0", "max-file=0", "compress=true", "=", "max-size=1q"]
        {
            assert!(wrong.parse::<LogOption>().is_err(), "{wrong}");
        }
    }
}
