//! What the store keeps for a domain that talks to it. Source: Xen's docs/misc/xenstore.txt.

use super::errno::Errno;
use super::outbox::Outbox;
use super::quota::QUOTA_TRANSACTIONS;
use super::transaction::{Change, Transaction};
use super::watch::Watches;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A domain's connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Domain {
    /// What it wants to know.
    pub watches: Watches,
    /// What it has begun, by number.
    pub transactions: BTreeMap<u32, Transaction>,
    last_transaction: u32,
    /// What waits for it.
    pub outbox: Outbox,
    /// Events were lost, and that has been said.
    lost: bool,
}

impl Domain {
    /// Opens a transaction and returns its number, which is never 0.
    ///
    /// # Errors
    /// `ENOSPC` if the domain has too many.
    pub fn start_transaction(&mut self) -> Result<u32, Errno> {
        if self.transactions.len() >= QUOTA_TRANSACTIONS {
            return Err(Errno::Enospc);
        }
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            if self.last_transaction != 0 && !self.transactions.contains_key(&self.last_transaction) {
                break;
            }
        }
        self.transactions.insert(self.last_transaction, Transaction::default());
        Ok(self.last_transaction)
    }
    /// Queues the events of a change. Returns false when events are lost for the first time.
    #[must_use]
    pub fn fire(&mut self, change: &Change) -> bool {
        let before = self.lost;
        for event in self.watches.events(change) {
            self.lost |= !self.outbox.push(&event);
        }
        before || !self.lost
    }
    /// Forgets watches and transactions, as the domain wishes.
    pub fn reset(&mut self) {
        self.watches = Watches::default();
        self.transactions.clear();
    }
}
