//! oci-push
fn main() {}
