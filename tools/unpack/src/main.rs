//! oci-unpack
fn main() {}
