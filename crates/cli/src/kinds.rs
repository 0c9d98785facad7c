//! The kind of line that a tool takes.

use descriptor::{ContainerLine, ImageLine, Line, RootfsLine};

use crate::Failure;

/// The image of a line.
///
/// # Errors
/// Exit 2 for a line of another kind.
pub fn image_line(line: Line) -> Result<ImageLine, Failure> {
    match line {
        Line::Image(line) => Ok(line),
        other => Err(other_kind(other, "an image", "oci-pull and oci-commit write image lines")),
    }
}

/// The rootfs of a line.
///
/// # Errors
/// Exit 2 for a line of another kind.
pub fn rootfs_line(line: Line) -> Result<RootfsLine, Failure> {
    match line {
        Line::Rootfs(line) => Ok(line),
        other => Err(other_kind(other, "a rootfs", "oci-unpack makes a rootfs line of an image line")),
    }
}

/// The container of a line.
///
/// # Errors
/// Exit 2 for a line of another kind.
pub fn container_line(line: Line) -> Result<ContainerLine, Failure> {
    match line {
        Line::Container(line) => Ok(line),
        other => Err(other_kind(other, "a container", "oci-mount makes a container line of a rootfs line")),
    }
}

fn other_kind(line: Line, wanted: &str, hint: &str) -> Failure {
    let got = match line {
        Line::Image(_) => "an image",
        Line::Rootfs(_) => "a rootfs",
        Line::Container(_) => "a container",
        Line::Error(line) => return Failure::travelling(line),
    };
    Failure::usage("stdin", format!("wanted {wanted} line, got {got} line")).with_hint(hint)
}
