//! How much one domain may keep in the store. Source: the defaults of xenstored (its man page and
//! docs/misc/xenstore.txt). They hold for guests, not for the machine's trusted side; where xenstored
//! counts all memory of a domain, there is one limit for each thing that can grow here.

/// Nodes that a domain may own.
pub const QUOTA_NODES: usize = 1000;
/// Watches of a domain.
pub const QUOTA_WATCHES: usize = 128;
/// Bytes of a node with its value, permissions and the names of its children; it must stay below.
pub const QUOTA_ENTRY_SIZE: usize = 2048;
/// Open transactions of a domain.
pub const QUOTA_TRANSACTIONS: usize = 10;
/// Nodes that a transaction may have looked at.
pub const QUOTA_TRANSACTION_NODES: usize = 1024;
/// Bytes that a transaction may hold when it looks at one more node.
pub const QUOTA_TRANSACTION_BYTES: usize = 256 << 10;
/// Entries in the permissions of a node.
pub const QUOTA_PERMS: usize = 5;
/// Bytes of events that may wait for a domain; more are lost.
pub const QUOTA_EVENT_BYTES: usize = 64 << 10;
