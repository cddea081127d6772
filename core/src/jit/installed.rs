//! The regions that are compiled: which pages they were made from, and where they are entered.

use super::region::Exit;
use super::{CodeHost, Start};
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
    /// The module it is in ([`Regions::next_module`]).
    pub module: usize,
    /// Bytes of its code.
    pub bytes: u64,
    /// The guest-physical pages it was made from.
    pub pages: Vec<u64>,
    /// The head records of the blocks it is entered at.
    pub heads: Vec<u32>,
    /// Its exits; the first has number 1.
    pub exits: Vec<Exit>,
    /// How often it was left where it may be entered by no one.
    pub misses: u32,
    /// How often it was seen that a switch led to a block that is not in it.
    pub strayed: u32,
}

/// Regions that were compiled together; a host keeps the code of all as long as one is left.
#[derive(Default)]
struct Module {
    bytes: u64,
    /// Bytes of those that are left.
    living: u64,
}

/// All of them.
#[derive(Default)]
pub struct Regions {
    all: Vec<Option<Installed>>,
    free: Vec<u32>,
    by_page: BTreeMap<u64, Vec<u32>>,
    /// By number; one of which nothing is left has no bytes.
    modules: Vec<Module>,
    /// Bytes of the modules that have one left.
    pub bytes: u64,
}

impl Regions {
    /// The number that the next one gets.
    pub fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.all.len() as u32)
    }
    /// The number for those that are compiled together next.
    pub fn next_module(&mut self) -> usize {
        self.modules.iter().position(|m| m.bytes == 0).unwrap_or_else(|| {
            self.modules.push(Module::default());
            self.modules.len() - 1
        })
    }
    /// Adds one, with the number [`Regions::next`] said.
    pub fn add(&mut self, region: Installed) {
        let n = self.next();
        self.bytes += region.bytes;
        if let Some(module) = self.modules.get_mut(region.module) {
            module.bytes += region.bytes;
            module.living += region.bytes;
        }
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
        if let Some(module) = self.modules.get_mut(region.module) {
            module.living -= region.bytes;
            if module.living == 0 {
                self.bytes -= core::mem::take(module).bytes;
            }
        }
    }
    /// Those in modules of which less than half is left.
    pub fn in_thin_modules(&self) -> Vec<u32> {
        let thin = |region: &Installed| self.modules.get(region.module).is_some_and(|m| m.living < m.bytes / 2);
        let all = (0..).zip(&self.all).filter(|(_, region)| region.as_ref().is_some_and(thin));
        all.map(|(n, _)| n).collect()
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
        self.modules.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    struct NoHost;

    impl CodeHost for NoHost {
        fn reserve(&mut self) -> Option<u32> {
            None
        }
        fn install(&mut self, _: &[u8]) -> bool {
            false
        }
        fn call(&mut self, _: &mut Cpu, _: &mut CodeCache, _: u32, _: u32) -> u32 {
            0
        }
        fn remove(&mut self, _: u32) {}
    }

    fn region(module: usize, bytes: u64) -> Installed {
        Installed {
            start: Start { la: 0, pa: 0, mode: 0, cpl: 0 },
            function: 0,
            module,
            bytes,
            pages: Vec::new(),
            heads: Vec::new(),
            exits: Vec::new(),
            misses: 0,
            strayed: 0,
        }
    }

    #[test]
    fn a_module_takes_memory_as_long_as_one_of_its_regions_is_left() {
        let (mut host, mut code): (Box<dyn CodeHost>, _) = (Box::new(NoHost), CodeCache::default());
        let mut regions = Regions::default();
        let first = regions.next_module();
        [60, 30, 10].into_iter().for_each(|bytes| regions.add(region(first, bytes)));
        let second = regions.next_module();
        regions.add(region(second, 7));
        assert_eq!((first != second, regions.bytes), (true, 107));
        regions.remove(0, &mut host, &mut code);
        assert_eq!((regions.bytes, regions.in_thin_modules()), (107, [1, 2].to_vec()));
        regions.remove(1, &mut host, &mut code);
        regions.remove(2, &mut host, &mut code);
        assert_eq!((regions.bytes, regions.next_module()), (7, first));
    }
}
