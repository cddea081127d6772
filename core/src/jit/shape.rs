//! From any graph of blocks to WebAssembly's nested blocks and loops.
//!
//! Strongly connected components are loops, the rest is put in topological order; inside a loop, without the edges
//! back to its heads, the same again. A loop (or a whole region) with several heads begins with a dispatch: whoever
//! jumps to one of them from where no label of its own is in reach says which in a local. Nothing is copied, whatever
//! the graph looks like.

use alloc::vec;
use alloc::vec::Vec;

/// Nested code.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// The code of this block. It never ends by itself: each of its ways out is a jump.
    Block(u32),
    /// `body`, with a label behind it that stands for `heads`, what comes next.
    Ahead {
        /// The blocks that a jump out of `body` means.
        heads: Vec<u32>,
        /// What lies before the label.
        body: Vec<Shape>,
    },
    /// A loop, with a label before it that stands for `heads`.
    Loop {
        /// The blocks that a jump to the beginning means.
        heads: Vec<u32>,
        /// What is repeated.
        body: Vec<Shape>,
    },
    /// Jumps to the one of these that the local says.
    Dispatch(Vec<u32>),
}

/// The shape of blocks `0..next.len()`, of which `entries` are entered from outside; `next` are the blocks each of them
/// may jump to. Blocks that cannot be reached are left out.
pub fn shape(next: &[Vec<u32>], entries: &[u32]) -> Vec<Shape> {
    let mut reached = vec![false; next.len()];
    let mut todo: Vec<u32> = entries.to_vec();
    while let Some(n) = todo.pop() {
        if !core::mem::replace(&mut reached[n as usize], true) {
            todo.extend(&next[n as usize]);
        }
    }
    let nodes: Vec<u32> = (0..next.len() as u32).filter(|&n| reached[n as usize]).collect();
    let mut place = vec![OUTSIDE; next.len()];
    arrange(next, &nodes, entries, &[], &mut place)
}

/// In `place`: not one of the blocks that are being arranged.
const OUTSIDE: u32 = u32::MAX;

/// Arranges `nodes`, which are entered at `heads`. Edges to `cut` are jumps to the beginning of the loop around.
fn arrange(next: &[Vec<u32>], nodes: &[u32], heads: &[u32], cut: &[u32], place: &mut [u32]) -> Vec<Shape> {
    let parts = components(next, nodes, cut, place);
    for (k, part) in parts.iter().enumerate() {
        for &n in part {
            place[n as usize] = k as u32;
        }
    }
    // Where each part is entered: from outside, or by an edge from another part.
    let mut entered: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
    let mut enter = |n: u32, place: &[u32]| {
        let list = &mut entered[place[n as usize] as usize];
        if !list.contains(&n) {
            list.push(n);
        }
    };
    heads.iter().for_each(|&n| enter(n, place));
    for &n in nodes {
        for &to in &next[n as usize] {
            if place[to as usize] != OUTSIDE && place[to as usize] != place[n as usize] && !cut.contains(&to) {
                enter(to, place);
            }
        }
    }
    for &n in nodes {
        place[n as usize] = OUTSIDE;
    }
    let mut shapes = if heads.len() > 1 { vec![Shape::Dispatch(heads.to_vec())] } else { Vec::new() };
    for (part, heads) in parts.into_iter().zip(entered) {
        let inner = match part[..] {
            [n] if !next[n as usize].contains(&n) || cut.contains(&n) => Shape::Block(n),
            _ => Shape::Loop { heads: heads.clone(), body: arrange(next, &part, &heads, &heads, place) },
        };
        if !shapes.is_empty() {
            shapes = vec![Shape::Ahead { heads, body: shapes }];
        }
        shapes.push(inner);
    }
    shapes
}

/// The strongly connected components among `nodes`, each before those it leads to (Tarjan 1972, without recursion).
fn components(next: &[Vec<u32>], nodes: &[u32], cut: &[u32], place: &mut [u32]) -> Vec<Vec<u32>> {
    const NEW: u32 = OUTSIDE - 1;
    const DONE: u32 = OUTSIDE - 2;
    for &n in nodes {
        place[n as usize] = NEW;
    }
    let mut found = Vec::new();
    let mut stack: Vec<u32> = Vec::new();
    let mut low: Vec<u32> = Vec::new();
    // Nodes on the way, with the number of edges already followed.
    let mut way: Vec<(u32, usize)> = Vec::new();
    for &root in nodes {
        if place[root as usize] != NEW {
            continue;
        }
        way.push((root, 0));
        while let Some((n, edge)) = way.pop() {
            if edge == 0 {
                // `place` is the index in `stack` and `low` until the component is complete.
                place[n as usize] = stack.len() as u32;
                low.push(stack.len() as u32);
                stack.push(n);
            }
            let me = place[n as usize] as usize;
            if let Some(&to) = next[n as usize].get(edge) {
                way.push((n, edge + 1));
                match place[to as usize] {
                    _ if cut.contains(&to) => {}
                    NEW => way.push((to, 0)),
                    OUTSIDE | DONE => {}
                    at => low[me] = low[me].min(low[at as usize]),
                }
                continue;
            }
            if low[me] == me as u32 {
                let part = stack.split_off(me);
                low.truncate(me);
                part.iter().for_each(|&n| place[n as usize] = DONE);
                found.push(part);
            } else if let Some(&(parent, _)) = way.last() {
                let parent = place[parent as usize] as usize;
                low[parent] = low[parent].min(low[me]);
            }
        }
    }
    found.reverse();
    for part in &mut found {
        part.sort_unstable();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk over a graph, as the code of its shape would make it.
    struct Walk<'a> {
        next: &'a [Vec<u32>],
        random: u64,
        /// The block that has to come now.
        expected: u32,
        state: u32,
        steps: u32,
    }

    impl Walk<'_> {
        fn random(&mut self, below: usize) -> usize {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            (self.random % below as u64) as usize
        }

        /// Jumps to a block: how many labels out.
        fn go(&mut self, to: u32, labels: &[Vec<u32>]) -> usize {
            let depth = labels.iter().rev().position(|l| l.contains(&to)).expect("a label");
            if labels[labels.len() - 1 - depth].len() > 1 {
                self.state = to;
            }
            depth
        }

        /// Runs code; how many labels out it jumps, nothing when the walk is over.
        fn run(&mut self, shapes: &[Shape], labels: &mut Vec<Vec<u32>>) -> Option<usize> {
            for shape in shapes {
                let out = match shape {
                    Shape::Block(n) => {
                        assert_eq!(*n, self.expected);
                        self.steps += 1;
                        let next = &self.next[*n as usize];
                        if next.is_empty() || self.steps == 200 {
                            return None;
                        }
                        self.expected = next[self.random(next.len())];
                        self.go(self.expected, labels)
                    }
                    Shape::Dispatch(_) => self.go(self.state, labels),
                    Shape::Ahead { heads, body } => {
                        labels.push(heads.clone());
                        let out = self.run(body, labels)?;
                        labels.pop();
                        out
                    }
                    Shape::Loop { heads, body } => loop {
                        labels.push(heads.clone());
                        let out = self.run(body, labels)?;
                        labels.pop();
                        if out > 0 {
                            break out;
                        }
                    },
                };
                // A jump to the label of `Ahead` goes on behind it.
                match (shape, out) {
                    (Shape::Ahead { .. }, 0) => {}
                    (Shape::Block(_) | Shape::Dispatch(_), depth) => return Some(depth),
                    (_, depth) => return Some(depth - 1),
                }
            }
            panic!("code that falls out of its shape");
        }
    }

    #[test]
    fn walks_over_any_graph_stay_on_its_edges() {
        let mut random = Walk { next: &[], random: 0x9e37_79b9_7f4a_7c15, expected: 0, state: 0, steps: 0 };
        for _ in 0..3000 {
            let blocks = 1 + random.random(12);
            let next: Vec<Vec<u32>> =
                (0..blocks).map(|_| (0..random.random(4)).map(|_| random.random(blocks) as u32).collect()).collect();
            let mut entries: Vec<u32> = (0..1 + random.random(3)).map(|_| random.random(blocks) as u32).collect();
            entries.sort_unstable();
            entries.dedup();
            let shapes = shape(&next, &entries);
            for &entry in &entries {
                let random = random.random(usize::MAX) as u64 | 1;
                let mut walk = Walk { next: &next, random, expected: entry, state: entry, steps: 0 };
                walk.run(&shapes, &mut Vec::new());
            }
        }
    }
}
