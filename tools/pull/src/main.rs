//! oci-pull
fn main() {}
