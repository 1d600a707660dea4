//! A holder is gone, and what it had comes back: some of it with each command.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Holder;
use crate::limits::RETURNED_PER_COMMAND_MAX;
use crate::machine::{State, Work};
use crate::reservation::Status;
use crate::{Id, NodeId, Reply};

impl State {
    /// An operator says that the disks of a node are destroyed, or those before the one with the book
    /// `keeping`: nobody spends those quotas any more. What was held from them, as far as it was told, ends by
    /// agreed time from now on.
    pub(crate) fn destroyed(
        &mut self,
        work: &mut Work,
        node: NodeId,
        keeping: Option<u64>,
    ) -> Reply {
        let escrow = &mut self.data.escrow;
        let before = match keeping.map(|book| escrow.holders.get(&Holder { node, book })) {
            None => u64::MAX,
            Some(Some(keeping)) => keeping.opened,
            Some(None) => return Reply::Rejected("the node has not opened that book yet".into()),
        };
        for (holder, standing) in &mut escrow.holders {
            standing.closed |= holder.node == node && standing.opened < before;
        }
        escrow.comes_back = Some(0);
        self.come_back(work);
        Reply::Done
    }

    /// Takes back some more of what closed holders had; whether there was anything to be done. First what they held,
    /// since its time runs from then on.
    pub(crate) fn come_back(&mut self, work: &mut Work) -> bool {
        let Some(mut bucket) = self.data.escrow.comes_back else { return false };
        let holders = self.data.escrow.holders.iter();
        let closed: Vec<Holder> =
            holders.filter(|(_, known)| known.closed).map(|(holder, _)| *holder).collect();
        let mut room = RETURNED_PER_COMMAND_MAX;
        for holder in &closed {
            let held = self.escrowed.range((*holder, String::new())..);
            let held = held.take_while(|(of, _)| of == holder).take(room);
            let held: Vec<String> = held.map(|(_, id)| id.clone()).collect();
            room -= held.len();
            for id in held {
                self.escrowed.remove(&(*holder, id.clone()));
                self.adopt(work, &id);
            }
        }
        while room > 0 {
            let Some(skus) = self.data.escrow.skus.keys_in(bucket) else {
                self.data.escrow.comes_back = None;
                return true;
            };
            let skus: Vec<Id> = skus.cloned().collect();
            for sku in skus {
                let returned = self.return_all(work, &sku, &closed);
                room = room.saturating_sub(1 + returned);
            }
            bucket += 1;
        }
        self.data.escrow.comes_back = Some(bucket);
        true
    }

    /// Takes back what closed holders had of a SKU; how many quotas.
    fn return_all(&mut self, work: &mut Work, sku: &str, closed: &[Holder]) -> usize {
        let Some(shares) = self.data.escrow.skus.get(sku) else { return 0 };
        let mut quotas = Vec::new();
        for (location, holders) in &shares.quotas {
            let gone = holders.iter().filter(|(holder, _)| closed.contains(holder));
            quotas.extend(gone.map(|(holder, quota)| (*holder, location.clone(), quota.left)));
        }
        if quotas.is_empty() {
            return 0;
        }
        for (holder, location, left) in &quotas {
            self.debit(work, *holder, (sku, location), *left, None);
        }
        self.data.escrow.tidy(sku);
        quotas.len()
    }

    /// From now on a reservation is the cluster's, and ends by agreed time.
    pub(crate) fn adopt(&mut self, work: &Work, id: &str) {
        let Some(known) = self.data.reservations.get_mut(id) else { return };
        let Some(escrow) = known.escrow.take() else { return };
        self.escrowed.remove(&(escrow.holder, id.to_string()));
        if known.status == Status::Held {
            known.expires = work.stamp.now + escrow.ttl_ms;
            self.holds.insert((known.expires, id.to_string()));
        }
    }
}
