//! oci-commit
fn main() {}
