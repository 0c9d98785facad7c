//! oci-spawn
fn main() {}
