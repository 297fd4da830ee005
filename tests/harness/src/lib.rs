//! switchyard-harness
