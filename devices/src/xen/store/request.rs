//! What a domain can ask for. Source: Xen's docs/misc/xenstore.txt ("Xenstore protocol details");
//! order of checks as in xenstored: is there such a request, who asks, which transaction.

use super::domain::Domain;
use super::errno::Errno;
use super::path::node_path;
use super::perms::Perm;
use super::transaction::{Change, View};
use super::wire::*;
use super::{Access, Store};

impl Store {
    /// Answers a request of a domain. The reply, and events of anyone's watches, wait in the domains'
    /// queues. Of a domain that is not known nothing is heard.
    pub fn request(&mut self, domid: u16, request: &Message) {
        if !self.is_introduced(domid) {
            return;
        }
        let header = request.header;
        let mut first_event = None;
        let result = self.answer(domid, header, &request.payload, &mut first_event);
        if let Some(domain) = self.domains.get_mut(&domid) {
            // Only events can be refused, and the reply is none.
            let _ = domain.outbox.push(&Message::reply(header, result));
            if let Some(event) = first_event {
                let _ = domain.outbox.push(&event);
            }
        }
    }
    /// May the domain's next request come, or has it enough to read?
    pub fn takes_requests(&self, domid: u16) -> bool {
        self.domains.get(&domid).is_some_and(|d| !d.outbox.is_large())
    }

    fn answer(
        &mut self,
        domid: u16,
        header: Header,
        payload: &[u8],
        first_event: &mut Option<Message>,
    ) -> Result<Vec<u8>, Errno> {
        match header.kind {
            XS_CONTROL | XS_INTRODUCE | XS_RELEASE | XS_IS_DOMAIN_INTRODUCED | XS_RESUME | XS_SET_TARGET => {
                return Err(if domid == 0 { Errno::Enosys } else { Errno::Eacces });
            }
            XS_DIRECTORY..=XS_SET_PERMS | XS_RESET_WATCHES | XS_DIRECTORY_PART => {}
            _ => return Err(Errno::Enosys),
        }
        let domain = self.domains.get_mut(&domid).ok_or(Errno::Eacces)?;
        match header.kind {
            XS_WATCH => {
                let (name, token) = two_strings(payload)?;
                *first_event = domain.watches.add(domid, name, token)?;
                return Ok(ok());
            }
            XS_UNWATCH => {
                let (name, token) = two_strings(payload)?;
                domain.watches.remove(domid, name, token)?;
                return Ok(ok());
            }
            _ => {}
        }
        if header.tx_id != 0 && !domain.transactions.contains_key(&header.tx_id) {
            return Err(Errno::Enoent);
        }
        match header.kind {
            XS_TRANSACTION_START if header.tx_id != 0 => Err(Errno::Ebusy),
            XS_TRANSACTION_START => Ok(strings([domain.start_transaction()?.to_string()])),
            XS_TRANSACTION_END => {
                let commit = match one_string(payload)? {
                    b"T" => true,
                    b"F" => false,
                    _ => return Err(Errno::Einval),
                };
                let transaction = domain.transactions.remove(&header.tx_id).ok_or(Errno::Enoent)?;
                if commit {
                    let changes = transaction.commit(domid, &mut self.tree)?;
                    self.fire(&changes);
                }
                Ok(ok())
            }
            XS_RESET_WATCHES => {
                domain.reset();
                Ok(ok())
            }
            XS_GET_DOMAIN_PATH => Ok(strings([format!("/local/domain/{}", number(one_string(payload)?))])),
            XS_SET_PERMS if payload.first() == Some(&b'@') => self.set_special_perms(domid, payload),
            _ => {
                let (result, changes) = self.node_request(domid, header, payload);
                self.fire(&changes);
                result
            }
        }
    }

    /// A request about a node, in a transaction or not.
    fn node_request(&mut self, domid: u16, header: Header, payload: &[u8]) -> (Result<Vec<u8>, Errno>, Vec<Change>) {
        let transaction = self.domains.get_mut(&domid).and_then(|d: &mut Domain| d.transactions.get_mut(&header.tx_id));
        let mut view = View::new(&mut self.tree, transaction);
        let result = on_node(&mut view, domid, header.kind, payload);
        (result, view.changes)
    }

    fn set_special_perms(&mut self, domid: u16, mut payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let name = core::str::from_utf8(take_string(&mut payload)?).map_err(|_| Errno::Einval)?;
        let new = super::Perms::new(&perm_list(payload)?).ok_or(Errno::Einval)?;
        let perms = self.special_perms(name).ok_or(Errno::Einval)?;
        if !perms.of(domid).has(Access::OWNER) {
            return Err(Errno::Eacces);
        }
        *perms = new;
        Ok(ok())
    }
}

fn two_strings(mut payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    // What may follow is reserved.
    Ok((take_string(&mut payload)?, take_string(&mut payload)?))
}

fn perm_list(mut payload: &[u8]) -> Result<Vec<Perm>, Errno> {
    let mut list = Vec::new();
    while !payload.is_empty() {
        list.push(Perm::parse(take_string(&mut payload)?)?);
    }
    Ok(list)
}

fn on_node(view: &mut View<'_>, who: u16, kind: u32, mut payload: &[u8]) -> Result<Vec<u8>, Errno> {
    let name = match kind {
        XS_WRITE | XS_SET_PERMS | XS_DIRECTORY_PART => take_string(&mut payload)?,
        _ => one_string(payload)?,
    };
    let path = node_path(who, name)?;
    match kind {
        XS_DIRECTORY => Ok(strings(view.list(who, &path)?.1)),
        XS_DIRECTORY_PART => directory_part(view, who, &path, number(one_string(payload)?)),
        XS_READ => Ok(view.read(who, &path)?.to_vec()),
        XS_GET_PERMS => Ok(strings(view.perms(who, &path)?.iter().map(|p| p.to_string()))),
        XS_WRITE => view.write(who, &path, payload).map(|()| ok()),
        XS_MKDIR => view.mkdir(who, &path).map(|()| ok()),
        XS_RM => view.rm(who, &path).map(|()| ok()),
        XS_SET_PERMS => view.set_perms(who, &path, &perm_list(payload)?).map(|()| ok()),
        _ => Err(Errno::Enosys),
    }
}

/// The node's generation, and as many whole names as fit from byte `offset` of the list on; the last
/// part ends with an empty name.
fn directory_part(view: &mut View<'_>, who: u16, path: &str, offset: u64) -> Result<Vec<u8>, Errno> {
    let (generation, names) = view.list(who, path)?;
    let mut part = strings([generation.to_string()]);
    let list = strings(names);
    let Some(mut rest) = usize::try_from(offset).ok().and_then(|at| list.get(at..)) else {
        part.push(0);
        return Ok(part);
    };
    let mut next = rest;
    while let Ok(name) = take_string(&mut next) {
        if part.len() + name.len() + 1 >= XENSTORE_PAYLOAD_MAX {
            return Ok(part);
        }
        part.extend_from_slice(&rest[..=name.len()]);
        rest = next;
    }
    part.push(0);
    Ok(part)
}
