//! oci-mount
fn main() {}
