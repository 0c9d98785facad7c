//! runtime

pub mod convert;
pub mod defaults;
pub mod users;
