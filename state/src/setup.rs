//! What people say of the whole cluster: its channels, policies and locations.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::allocation::Policy;
use crate::channel::{Channel, Definition};
use crate::machine::{State, Work};
use crate::{Reply, limits};

impl State {
    pub(crate) fn put_locations(&mut self, locations: Vec<String>) -> Reply {
        if locations.len() > limits::LOCATIONS_MAX {
            return Reply::Rejected("too many locations".into());
        }
        self.data.locations = locations;
        Reply::Done
    }

    pub(crate) fn seed(
        &mut self,
        work: &mut Work,
        channels: BTreeMap<String, Definition>,
        policies: Vec<Policy>,
        locations: Vec<String>,
    ) -> Reply {
        if self.data.seeded {
            return Reply::Done;
        }
        let known = &self.data.channels;
        let new = channels.keys().filter(|name| !known.contains_key(*name)).count();
        let too_many = known.len() + new > limits::CHANNELS_MAX
            || policies.len() > limits::POLICIES_MAX
            || locations.len() > limits::LOCATIONS_MAX;
        if too_many {
            return Reply::Rejected("too many channels, policies or locations".into());
        }
        for (name, definition) in channels {
            let channel = Channel::new(definition, work.stamp.now);
            self.data.channels.entry(name).or_insert(channel);
        }
        self.data.policies = policies;
        self.data.policies_version = work.stamp.index;
        self.data.locations = locations;
        self.data.seeded = true;
        self.walk(work);
        Reply::Done
    }

    pub(crate) fn put_channel(
        &mut self,
        work: &mut Work,
        name: String,
        definition: Definition,
    ) -> Reply {
        let known = self.data.channels.get(&name);
        if known.is_some_and(|known| known.definition.location != definition.location) {
            return Reply::Rejected("the location of a channel cannot be changed".into());
        }
        if let Some(why) = self.stay(work, &name) {
            return Reply::Rejected(why.into());
        }
        if let Some(channel) = self.data.channels.get_mut(&name) {
            let how = |known: &Definition| (known.pushes, known.shadow, known.compares);
            let differs = how(&channel.definition) != how(&definition);
            channel.definition = definition;
            if differs {
                self.walk(work);
            }
        } else if self.data.channels.len() >= limits::CHANNELS_MAX {
            return Reply::Rejected("too many channels".into());
        } else {
            self.data.channels.insert(name, Channel::new(definition, work.stamp.now));
        }
        Reply::Done
    }

    pub(crate) fn put_policies(
        &mut self,
        work: &mut Work,
        policies: Vec<Policy>,
        replaces: Option<u64>,
    ) -> Reply {
        let version = self.data.policies_version;
        if replaces.is_some_and(|replaces| replaces != version) {
            return Reply::Superseded { version };
        }
        if policies.len() > limits::POLICIES_MAX {
            return Reply::Rejected("too many policies".into());
        }
        // What was removed may still be named where it was.
        let before = self.data.policies.iter().flat_map(Policy::channels);
        let known: BTreeSet<&str> =
            before.chain(self.data.channels.keys().map(String::as_str)).collect();
        for policy in &policies {
            let sku = &policy.sku;
            if let Err(why) = policy.check() {
                return Reply::Rejected(alloc::format!("policy {sku:?}: {why}"));
            }
            if let Some(name) = policy.channels().find(|name| !known.contains(name)) {
                return Reply::Rejected(alloc::format!(
                    "policy {sku:?}: there is no channel {name:?}"
                ));
            }
        }
        self.data.policies = policies;
        self.data.policies_version = work.stamp.index;
        self.walk(work);
        Reply::Done
    }
}
