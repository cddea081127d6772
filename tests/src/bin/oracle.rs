//! Command line of the oracle.
use std::time::Instant;
use tabvisor_tests::oracle::{encoding, generator, host::Host, state::*};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: u64 = a[1].parse().unwrap();
    for mode in [Mode::Long64, Mode::Prot32] {
        let mut h = Host::new().unwrap();
        let mut vec = std::collections::BTreeMap::<u16, u64>::new();
        let (mut diff, mut done) = (0u64, 0u64);
        let (mut tg, mut th) = (0.0, 0.0);
        let mut outs = [vec![], vec![]];
        for i in (0..n).step_by(1024) {
            let s = Instant::now();
            let tests: Vec<Test> = (i..i + 1024).map(|i| generator::generate(mode, 1, i)).collect();
            tg += s.elapsed().as_secs_f64();
            for o in &mut outs { *o = tests.iter().map(Out::unchanged).collect(); }
            let s = Instant::now();
            h.run_all(&tests, &mut outs[0]);
            th += s.elapsed().as_secs_f64();
            h.run_all(&tests, &mut outs[1]);
            for ((t, a), b) in tests.iter().zip(&outs[0]).zip(&outs[1]) {
                *vec.entry(a.vector).or_default() += 1;
                done += a.completed(t) as u64;
                if a != b {
                    diff += 1;
                    if diff < 10 { println!("{:?} {:x?} {:x?}\n{:x?}", encoding::decode(t).code(), t.bytes(), a, b); }
                }
                if a.vector == VEC_KILLED { println!("killed {:?} {:x?}", encoding::decode(t).code(), t.bytes()); }
            }
        }
        println!("{mode:?} n={n} diff={diff} completed={done} gen={:.0}/s host={:.0}/s killed={} {vec:?}", n as f64 / tg, n as f64 / th, h.killed);
    }
}
