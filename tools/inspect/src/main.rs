//! oci-inspect
fn main() {}
