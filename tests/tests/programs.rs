//! Random programs, interpreted and compiled: the same state and RAM at the same counts of instructions.
//!
//! `TABVISOR_JIT_PROGRAMS` sets how many, `TABVISOR_JIT_FIRST` the number of the first; a failure names the program's
//! number, and what differs first.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../../core/tests/wasm/mod.rs"]
mod wasm;

use std::cell::RefCell;
use std::rc::Rc;
use tabvisor_core::cpu::Cpu;
use tabvisor_core::decode::cache::CodeCache;
use tabvisor_core::jit::layout::Layout;
use tabvisor_core::jit::{CodeHost, Stats};
use tabvisor_core::vcpu::CpuExit;
use tabvisor_tests::oracle::rng::Rng;
use tabvisor_tests::programs::generate::{Program, program};
use tabvisor_tests::programs::layout::{CODE, CODE_SIZE, DATA, DATA_SIZE};
use tabvisor_tests::programs::machine::Machine;

#[global_allocator]
static GLOBAL: wasm::Global = wasm::Global::new();

/// Programs on one host of modules, which keeps all it ever had.
const PART: u64 = 100;

/// A host that several machines use, one after the other.
struct Shared(Rc<RefCell<wasm::Wasmi>>);

impl CodeHost for Shared {
    fn made_for(&mut self, layout: &Layout) {
        self.0.borrow_mut().made_for(layout);
    }
    fn reserve(&mut self) -> Option<u32> {
        self.0.borrow_mut().reserve()
    }
    fn install(&mut self, module: &[u8]) -> bool {
        self.0.borrow_mut().install(module)
    }
    fn call(&mut self, cpu: &mut Cpu, code: &mut CodeCache, function: u32, entry: u32) -> u32 {
        self.0.borrow_mut().call(cpu, code, function, entry)
    }
    fn remove(&mut self, function: u32) {
        self.0.borrow_mut().remove(function);
    }
}

/// What happens at a stop.
#[derive(Clone, Debug)]
struct Stop {
    /// Instructions to run.
    budget: u64,
    /// Bytes that a device writes then.
    poke: Option<(u64, Vec<u8>)>,
}

/// How a program is run.
#[derive(Clone, Debug)]
struct Plan {
    /// Samples until a page is compiled.
    hot: u16,
    /// Instructions after which it is enough.
    total: u64,
    stops: Vec<Stop>,
}

fn plan(r: &mut Rng) -> Plan {
    let hot = if r.chance(70) { 0 } else { 1 + r.below(3) as u16 };
    let total = if hot == 0 { 20_000 } else { 150_000 };
    let most = r.pick(&[30, 300, 3_000, 30_000]);
    let mut stops = Vec::new();
    for _ in 0..2_000 {
        let budget = 1 + match r.below(10) {
            0 => r.below(3),
            1..=3 => r.below(most / 10 + 1),
            _ => r.below(most),
        };
        let poke = r.chance(3).then(|| {
            let at = if r.chance(70) { CODE + r.below(CODE_SIZE - 8) } else { DATA + r.below(DATA_SIZE - 8) };
            (at, vec![r.next() as u8; 1 + r.below(4) as usize])
        });
        stops.push(Stop { budget, poke });
    }
    Plan { hot, total, stops }
}

fn compiled(p: &Program, plan: &Plan, host: &Rc<RefCell<wasm::Wasmi>>) -> Machine {
    let mut m = Machine::new(p);
    m.vcpu.set_code_host(Box::new(Shared(host.clone())));
    m.vcpu.jit().expect("it was just set").set_hot(plan.hot);
    m
}

/// Runs to a stop in both; what differs.
fn step(want: &mut Machine, got: &mut Machine, budget: u64, ram: &mut [Vec<u8>; 2]) -> Result<CpuExit, String> {
    let exits = (want.run(budget), got.run(budget));
    let same = exits.0 == exits.1 && want.state() == got.state();
    want.memory(&mut ram[0]);
    got.memory(&mut ram[1]);
    if same && ram[0] == ram[1] {
        return Ok(exits.0);
    }
    let mut text = format!("{exits:?}\ninterpreted: {}\ncompiled:    {}\n", want.describe(), got.describe());
    let bytes = ram[0].iter().zip(&ram[1]).enumerate().filter(|(_, (a, b))| a != b);
    for (at, (a, b)) in bytes.take(12) {
        text += &format!("[{at:x}]: {a:02x}, compiled {b:02x}\n");
    }
    if same {
        text += "registers are the same\n";
    }
    Err(text)
}

/// Runs a program; what differs, if anything does.
fn run(p: &Program, plan: &Plan, host: &Rc<RefCell<wasm::Wasmi>>) -> Result<Stats, String> {
    let mut ram = [Vec::new(), Vec::new()];
    let (mut want, mut got) = (Machine::new(p), compiled(p, plan, host));
    for (n, stop) in plan.stops.iter().enumerate() {
        match step(&mut want, &mut got, stop.budget, &mut ram) {
            Ok(CpuExit::Shutdown) => break,
            Ok(_) if want.vcpu.retired() > plan.total => break,
            Ok(_) => {}
            Err(_) => return Err(narrow(p, plan, n, host, &mut ram)),
        }
        if let Some((at, bytes)) = &stop.poke {
            want.poke(*at, bytes);
            got.poke(*at, bytes);
        }
    }
    Ok(got.vcpu.jit().expect("it has one").stats)
}

/// The smallest last budget at which a program that differs at stop `n` still does.
fn narrow(p: &Program, plan: &Plan, n: usize, host: &Rc<RefCell<wasm::Wasmi>>, ram: &mut [Vec<u8>; 2]) -> String {
    let mut until = |budget: u64| {
        let (mut want, mut got) = (Machine::new(p), compiled(p, plan, host));
        for stop in &plan.stops[..n] {
            let _ = step(&mut want, &mut got, stop.budget, ram);
            if let Some((at, bytes)) = &stop.poke {
                want.poke(*at, bytes);
                got.poke(*at, bytes);
            }
        }
        step(&mut want, &mut got, budget, ram).map(|_| format!("{}\n{}", want.describe(), want.listing(3)))
    };
    let (mut low, mut high) = (1, plan.stops[n].budget);
    while low < high {
        let middle = (low + high) / 2;
        if until(middle).is_err() { high = middle } else { low = middle + 1 }
    }
    let before = until(high - 1).unwrap_or_else(|_| "not known".into());
    let text = until(high).err().unwrap_or_else(|| "not found again".into());
    let (hot, long, user) = (plan.hot, p.long, p.user);
    format!(
        "stop {n}, {high} of its {} instructions, hot {hot}, long {long}, user {user}\nbefore: {before}{text}",
        plan.stops[n].budget
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

#[test]
fn programs_do_the_same_interpreted_and_compiled() {
    let first = number("TABVISOR_JIT_FIRST").unwrap_or(0);
    let count = number("TABVISOR_JIT_PROGRAMS").unwrap_or(40);
    let mut wrong = Vec::new();
    let mut sum = Stats::default();
    let mut host = Rc::new(RefCell::new(wasm::Wasmi::new()));
    for index in first..first + count {
        if (index - first) % PART == PART - 1 {
            host = Rc::new(RefCell::new(wasm::Wasmi::new()));
        }
        let r = &mut Rng::at(11, index);
        let (p, plan) = (program(r), plan(r));
        match run(&p, &plan, &host) {
            Ok(stats) => {
                sum.modules += stats.modules;
                sum.regions += stats.regions;
                sum.insns += stats.insns;
                sum.entered += stats.entered;
                sum.stopped += stats.stopped;
                sum.retired += stats.retired;
            }
            Err(text) => {
                println!("program {index} differs");
                wrong.push(format!("program {index}: {text}"));
            }
        }
        if wrong.len() > 5 {
            break;
        }
    }
    println!("{sum:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
