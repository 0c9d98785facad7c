//! What is written where: limits as data, and the one loop that writes them.

use std::borrow::Cow;

use rustix::io::Errno;

use crate::directory::Directory;
use crate::{Error, Result, controllers};

/// What it means when the kernel has no such file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The limit cannot be had: an error.
    Fatal,
    /// The value asks for nothing that the kernel would otherwise do.
    Fine,
    /// As `Fine` where no swap is in use, so that there is nothing to limit.
    FineWithoutSwap,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The controller whose directory has the file.
    pub(crate) controller: Cow<'static, str>,
    /// The file and what is written; the first of these that exists (the kernel names some by the scheduler in use).
    pub(crate) choices: Vec<(Cow<'static, str>, String)>,
    /// The part of `linux.resources` it comes from.
    pub(crate) resource: Cow<'static, str>,
    /// What it means when there is no such file.
    pub(crate) missing: Missing,
    /// Settings of one knot that follow each other bound one another: the kernel refuses (`EINVAL`) one that does not fit
    /// what another still is, and takes it once that is written.
    pub(crate) knot: Option<&'static str>,
}

impl Setting {
    /// A value that must be written.
    pub(crate) fn new(
        resource: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl ToString,
    ) -> Self {
        let file = file.into();
        let controller = file.split('.').next().unwrap_or_default().to_string();
        Self {
            controller: controller.into(),
            choices: vec![(file, value.to_string())],
            resource: resource.into(),
            missing: Missing::Fatal,
            knot: None,
        }
    }

    /// Another file, tried where those before do not exist.
    pub(crate) fn or(mut self, file: &'static str, value: impl ToString) -> Self {
        self.choices.push((file.into(), value.to_string()));
        self
    }

    pub(crate) fn missing(mut self, missing: Missing) -> Self {
        self.missing = missing;
        self
    }

    pub(crate) fn knot(mut self, knot: &'static str) -> Self {
        self.knot = Some(knot);
        self
    }

    /// Writes it to the first of its files that is there.
    fn write(&self, directory: &Directory) -> Result<()> {
        for (file, value) in &self.choices {
            if self.write_lines(directory, file, value)? {
                return Ok(());
            }
        }
        self.absent(directory)
    }

    /// Writes each line by a call of its own; false where there is no such file.
    fn write_lines(&self, directory: &Directory, file: &str, value: &str) -> Result<bool> {
        let lines = if value.is_empty() { "\n" } else { value };
        for line in lines.split_inclusive('\n') {
            match directory.write(file, line) {
                Ok(()) => {}
                Err(error) if error.is_not_found() && error.call == "openat" => return Ok(false),
                Err(source) => {
                    return Err(Error::Limit {
                        resource: self.resource.to_string(),
                        value: line.trim_end().into(),
                        path: directory.path().join(file),
                        source,
                    });
                }
            }
        }
        Ok(true)
    }

    fn absent(&self, directory: &Directory) -> Result<()> {
        match self.missing {
            Missing::Fine => return Ok(()),
            Missing::FineWithoutSwap if !swap_is_in_use() => return Ok(()),
            _ => {}
        }
        let resource = self.resource.to_string();
        let names = controllers::read(directory).unwrap_or_else(|_| vec![self.controller.to_string()]);
        if self.controller != "cgroup" && !names.iter().any(|one| *one == self.controller) {
            let why = controllers::why_missing(directory);
            return Err(Error::NoController { resource, controller: self.controller.to_string(), why });
        }
        let file = self.choices.first().map(|(file, _)| &**file).unwrap_or_default();
        Err(Error::NoFile { resource, path: directory.path().join(file) })
    }
}

/// Writes the settings in order, those of a knot in the order that the kernel takes.
pub(crate) fn write_all<'a>(
    settings: &[Setting],
    directory: impl Fn(&Setting) -> Result<&'a Directory>,
) -> Result<()> {
    for knot in settings.chunk_by(|one, next| one.knot.is_some() && one.knot == next.knot) {
        let mut waiting: Vec<&Setting> = knot.iter().collect();
        loop {
            let before = waiting.len();
            let mut refused = Vec::new();
            let mut first = None;
            for setting in waiting {
                match setting.write(directory(setting)?) {
                    Ok(()) => {}
                    Err(error) if before > 1 && error.errno() == Some(Errno::INVAL) => {
                        refused.push(setting);
                        first.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            match first {
                None => break,
                Some(error) if refused.len() == before => return Err(error),
                Some(_) => waiting = refused,
            }
        }
    }
    Ok(())
}

/// True where a swap device is on: below its heading, `/proc/swaps` has a line.
#[expect(clippy::disallowed_methods, reason = "the kernel's file")]
fn swap_is_in_use() -> bool {
    std::fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of the test's own")]
pub(crate) mod tests {
    use super::*;

    /// `file=value`, several choices with a bar between.
    pub(crate) fn shown(settings: &[Setting]) -> Vec<String> {
        let choices = |one: &Setting| -> Vec<String> {
            one.choices.iter().map(|(file, value)| format!("{file}={value}")).collect()
        };
        settings.iter().map(|one| choices(one).join("|")).collect()
    }

    /// A directory of plain files stands in for the kernel's: what is there can be written.
    fn directory(files: &[&str]) -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().expect("a directory");
        for file in files.iter().chain(&["cgroup.controllers"]) {
            std::fs::write(dir.path().join(file), "memory io\n").expect("a file");
        }
        let open = Directory::open(dir.path(), std::path::Path::new("")).expect("open");
        (dir, open)
    }

    #[test]
    fn the_first_file_that_exists_is_written() {
        let (dir, open) = directory(&["io.weight"]);
        let setting = Setting::new("blockIO.weight", "io.bfq.weight", 10).or("io.weight", 20);
        write_all(&[setting], |_| Ok(&open)).expect("written");
        assert!(std::fs::read_to_string(dir.path().join("io.weight")).expect("read").starts_with("20"));
    }

    #[test]
    fn a_missing_file_is_told_from_a_missing_controller() {
        let (_dir, open) = directory(&[]);
        let write = |setting: Setting| write_all(&[setting], |_| Ok(&open));
        let error = write(Setting::new("memory.limit", "memory.max", 1)).expect_err("no file");
        assert!(matches!(&error, Error::NoFile { path, .. } if path.ends_with("memory.max")), "{error}");
        let error = write(Setting::new("pids.limit", "pids.max", 1)).expect_err("no controller");
        assert!(matches!(&error, Error::NoController { controller, .. } if controller == "pids"), "{error}");
        write(Setting::new("memory.swap", "memory.swap.max", "max").missing(Missing::Fine))
            .expect("nothing to do");
    }
}
