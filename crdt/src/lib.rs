//! # crdt
//!
//! What users see, folded from records: a pure function of the set of records, whatever their order.
#![forbid(unsafe_code)]

pub mod memory;
