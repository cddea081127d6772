//! The regions that are compiled: which pages they were made from, and where they are entered.

use super::region::Exit;
use super::{CodeHost, Rate, Start};
use crate::decode::cache::CodeCache;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A compiled region.
pub struct Installed {
    /// Where it begins.
    pub start: Start,
    /// Its place in the table of functions.
    pub function: u32,
    /// Bytes of its code.
    pub bytes: u64,
    /// The guest-physical pages it was made from.
    pub pages: Vec<u64>,
    /// The head records of the blocks it is entered at.
    pub heads: Vec<u32>,
    /// Its exits; the first has number 1.
    pub exits: Vec<Exit>,
    /// How often it was left for a page that the TLB does not know, and for an access that is not in the page of one
    /// before.
    pub misses: Rate,
    pub apart: Rate,
    /// Does it look up pages by calls ([`super::blocks::Graph::fills`])?
    pub fills: bool,
    /// How often it was seen that a switch led to a block that is not in it.
    pub strayed: u32,
}

/// All of them.
#[derive(Default)]
pub struct Regions {
    all: Vec<Option<Installed>>,
    free: Vec<u32>,
    by_page: BTreeMap<u64, Vec<u32>>,
    /// Bytes of all that were added since they were cleared: not every host gives back memory before.
    pub bytes: u64,
}

impl Regions {
    /// The number that the next one gets.
    pub fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.all.len() as u32)
    }
    /// Adds one, with the number [`Regions::next`] said.
    pub fn add(&mut self, region: Installed) {
        let n = self.next();
        self.bytes += region.bytes;
        for &page in &region.pages {
            self.by_page.entry(page).or_default().push(n);
        }
        match self.free.pop() {
            Some(n) => self.all[n as usize] = Some(region),
            None => self.all.push(Some(region)),
        }
    }
    /// The one with this number.
    pub fn get(&mut self, n: u32) -> Option<&mut Installed> {
        self.all.get_mut(n as usize)?.as_mut()
    }
    /// Are there any that were made from a page?
    pub fn made_from(&self, page: u64) -> bool {
        self.by_page.get(&page).is_some_and(|regions| !regions.is_empty())
    }
    /// Removes those that were made from a page. Returns whether there were any.
    pub fn drop_page(&mut self, page: u64, host: &mut Box<dyn CodeHost>, code: &mut CodeCache) -> bool {
        let lost = self.by_page.remove(&page).unwrap_or_default();
        for &n in &lost {
            self.remove(n, host, code);
        }
        !lost.is_empty()
    }
    /// Removes one.
    pub fn remove(&mut self, n: u32, host: &mut Box<dyn CodeHost>, code: &mut CodeCache) {
        let Some(region) = self.all.get_mut(n as usize).and_then(Option::take) else { return };
        for head in region.heads {
            code.set_compiled(head, None);
        }
        for page in region.pages {
            if let Some(others) = self.by_page.get_mut(&page) {
                others.retain(|&other| other != n);
            }
        }
        host.remove(region.function);
        self.free.push(n);
    }
    /// No block is compiled any more.
    pub fn forget(&self, code: &mut CodeCache) {
        for &head in self.all.iter().flatten().flat_map(|region| &region.heads) {
            code.set_compiled(head, None);
        }
    }
    /// Removes all of them; no block is compiled any more.
    pub fn clear(&mut self, host: &mut Box<dyn CodeHost>) {
        for region in self.all.drain(..).flatten() {
            host.remove(region.function);
        }
        self.free.clear();
        self.by_page.clear();
        host.clear();
        self.bytes = 0;
    }
}
