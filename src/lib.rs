//! stockraft
