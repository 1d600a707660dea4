//! Allocation policies of a config file.

use std::collections::BTreeMap;

use serde::Deserialize;

/// How a SKU is allocated; the first policy whose glob matches counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which SKUs: `*` stands for any characters, `?` for one.
    pub sku: String,
    /// How.
    pub mode: Mode,
    /// Weights by channel, of `split`.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
    /// Units held back, by channel.
    #[serde(default)]
    pub buffers: BTreeMap<String, u32>,
}

/// The ways of allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every channel shows all that is available.
    Shared,
    /// Each shows its share.
    Split,
}

impl From<&Policy> for state::allocation::Policy {
    fn from(policy: &Policy) -> Self {
        let mode = match policy.mode {
            Mode::Shared => state::allocation::Mode::Shared,
            Mode::Split => state::allocation::Mode::Split,
        };
        let buffers = policy.buffers.iter().map(|(name, units)| (name.clone(), i64::from(*units)));
        Self {
            sku: policy.sku.clone(),
            mode,
            weights: policy.weights.clone(),
            buffers: buffers.collect(),
        }
    }
}
