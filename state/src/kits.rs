//! Kits: SKUs that are made of others when they are sold.
//!
//! A kit has no stock of its own: it is available as often as its scarcest component allows, and what
//! happens to it happens to its components, all together. Kits may be parts of kits. What an order sold
//! keeps the composition of that day ([`Line::parts`](crate::order::Line::parts)).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::buckets::Buckets;
use crate::limits::{KIT_COMPONENTS_MAX, KIT_DEPTH_MAX, KIT_UNITS_MAX, KITS_OF_SKU_MAX};

/// SKUs and units of each.
pub type Parts = Vec<(String, i64)>;

/// All compositions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kits {
    /// The direct components of each kit.
    recipes: Buckets<String, Parts>,
    /// The kits of which a SKU is a direct component: derived.
    #[serde(skip)]
    parents: Arc<BTreeMap<String, BTreeSet<String>>>,
}

impl Kits {
    /// The direct components of each kit.
    #[must_use]
    pub const fn recipes(&self) -> &Buckets<String, Parts> {
        &self.recipes
    }

    /// The direct components of a kit; `None` of what is none.
    #[must_use]
    pub fn components(&self, sku: &str) -> Option<&Parts> {
        self.recipes.get(sku)
    }

    /// What one unit of a SKU takes out of stock, by SKU: itself, unless it is a kit. Components that are
    /// shared by its parts are added up.
    #[must_use]
    pub fn parts(&self, sku: &str) -> Parts {
        let mut parts = BTreeMap::new();
        // Compositions beyond the bounds are never taken in.
        let _ = self.add_parts(&mut parts, sku, 1, 0);
        parts.into_iter().collect()
    }

    /// The same of a kit; nothing of what is none.
    pub(crate) fn recipe(&self, sku: &str) -> Parts {
        if self.components(sku).is_some() { self.parts(sku) } else { Parts::new() }
    }

    fn add_parts(
        &self,
        parts: &mut BTreeMap<String, i64>,
        sku: &str,
        units: i64,
        depth: usize,
    ) -> Result<(), &'static str> {
        let Some(components) = self.components(sku) else {
            let sum = parts.entry(sku.to_string()).or_default();
            *sum = sum.saturating_add(units);
            let few = parts.len() <= KIT_COMPONENTS_MAX;
            let small = parts.get(sku).is_some_and(|sum| *sum <= KIT_UNITS_MAX);
            return if few && small { Ok(()) } else { Err("it takes too many units or SKUs") };
        };
        if depth >= KIT_DEPTH_MAX {
            return Err("kits are nested too deep, or in a circle");
        }
        for (component, quantity) in components {
            self.add_parts(parts, component, units.saturating_mul(*quantity), depth + 1)?;
        }
        Ok(())
    }

    /// All kits that take this SKU out of stock, however deep.
    #[must_use]
    pub fn containing(&self, sku: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = alloc::vec![sku.to_string()];
        while let Some(sku) = open.pop() {
            for parent in self.parents.get(&sku).into_iter().flatten() {
                if found.insert(parent.clone()) {
                    open.push(parent.clone());
                }
            }
        }
        found
    }

    /// The SKUs whose availability or exposure hangs together with this one's, itself among them.
    #[must_use]
    pub fn related(&self, sku: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([sku.to_string()]);
        if self.recipes.is_empty() {
            return found;
        }
        for (part, _) in self.parts(sku) {
            found.extend(self.containing(&part));
            found.insert(part);
        }
        found
    }

    /// Says what a kit is made of; nothing makes it a SKU like others. Changes nothing if that cannot be.
    pub(crate) fn put(&mut self, kit: &str, components: Parts) -> Result<(), String> {
        let before = self.replace(kit, components);
        let mut changed = self.containing(kit);
        changed.insert(kit.to_string());
        for sku in &changed {
            if let Err(why) = self.add_parts(&mut BTreeMap::new(), sku, 1, 0) {
                self.replace(kit, before);
                return Err(alloc::format!("{sku:?}: {why}"));
            }
        }
        let many = |(part, _): &(String, i64)| self.containing(part).len() > KITS_OF_SKU_MAX;
        if let Some((part, _)) = self.parts(kit).iter().find(|part| many(part)) {
            let why = alloc::format!("{part:?} is a part of {KITS_OF_SKU_MAX} kits already");
            self.replace(kit, before);
            return Err(why);
        }
        Ok(())
    }

    /// Puts a composition in place of another, and gives that back.
    fn replace(&mut self, kit: &str, components: Parts) -> Parts {
        let kit = kit.to_string();
        let parents = Arc::make_mut(&mut self.parents);
        let before = self.recipes.remove(&kit).unwrap_or_default();
        for (component, _) in &before {
            if let Some(kits) = parents.get_mut(component) {
                kits.remove(&kit);
                if kits.is_empty() {
                    parents.remove(component);
                }
            }
        }
        for (component, _) in &components {
            parents.entry(component.clone()).or_default().insert(kit.clone());
        }
        if !components.is_empty() {
            self.recipes.insert(kit, components);
        }
        before
    }

    /// Makes what is derived.
    pub(crate) fn derive(&mut self) {
        let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (kit, components) in self.recipes.iter() {
            for (component, _) in components {
                parents.entry(component.clone()).or_default().insert(kit.clone());
            }
        }
        self.parents = Arc::new(parents);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, i64)]) -> Parts {
        list.iter().map(|(sku, units)| ((*sku).to_string(), *units)).collect()
    }

    #[test]
    fn shared_components_are_added_up() {
        // Counted apart, a set that needs three cups would be sold when there are two.
        let mut kits = Kits::default();
        kits.put("PAIR", parts(&[("CUP", 2)])).unwrap();
        kits.put("SET", parts(&[("PAIR", 1), ("CUP", 1), ("POT", 1)])).unwrap();
        assert_eq!(kits.parts("SET"), parts(&[("CUP", 3), ("POT", 1)]));
        assert_eq!(kits.parts("POT"), parts(&[("POT", 1)]));
        assert_eq!((kits.related("SET").len(), kits.related("POT").len()), (4, 2));
        let mut again: Kits = Kits { parents: Arc::default(), ..kits.clone() };
        again.derive();
        assert_eq!(again, kits);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        // A circle would be walked for ever by every node; so would one closed by another kit's change.
        let mut kits = Kits::default();
        assert!(kits.put("A", parts(&[("A", 1)])).is_err());
        kits.put("A", parts(&[("B", 1)])).unwrap();
        kits.put("B", parts(&[("C", 1)])).unwrap();
        let before = kits.clone();
        assert!(kits.put("C", parts(&[("A", 1)])).is_err());
        assert_eq!(kits, before);
        // Each movement of a component looks at all kits that take of it.
        let mut kits = Kits::default();
        for n in 0..KITS_OF_SKU_MAX {
            kits.put(&alloc::format!("{n}"), parts(&[("BOX", 1)])).unwrap();
        }
        assert!(kits.put("one more", parts(&[("BOX", 1)])).is_err());
        assert_eq!(kits.recipes().len(), KITS_OF_SKU_MAX);
        // Depth and units count from the outermost kit.
        let mut kits = Kits::default();
        for depth in 0..KIT_DEPTH_MAX {
            let (kit, part) = (alloc::format!("{depth}"), alloc::format!("{}", depth + 1));
            kits.put(&kit, parts(&[(&part, 1)])).unwrap();
        }
        let last = alloc::format!("{KIT_DEPTH_MAX}");
        assert!(kits.put(&last, parts(&[("X", 1)])).is_err());
        assert!(kits.put("0", parts(&[("X", KIT_UNITS_MAX + 1)])).is_err());
        kits.put("0", Parts::new()).unwrap();
        kits.put(&last, parts(&[("X", 1)])).unwrap();
    }
}
