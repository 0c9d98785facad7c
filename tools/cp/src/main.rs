//! oci-cp
fn main() {}
