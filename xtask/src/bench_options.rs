//! What `cargo xtask bench` is asked to measure.

use crate::bench_io;
use crate::bench_who::Who;
use anyhow::{Context, Result, bail};

const HELP: &str = "\
cargo xtask bench [options]
  --quick                   five integer programs, one round, no QEMU
  --only a,b                these programs (all)
  --where a,b               where our machine runs: node, chromium, native (all three), and with its compiler on:
                            node-jit, chromium-jit; as a domain of Xen: node-pvh, node-pv, chromium-pvh, chromium-pv
  --jit                     with its compiler on: another default for --where, node-jit,chromium-jit
  --domains                 as a domain against as a PC, compiled: other defaults, namely the programs that ask a kernel
                            for something, no peers, and --where node-jit,node-pvh,node-pv and the same in chromium
  --io                      disks in memory and timers instead: read through the kernel's cache and past it, written;
                            sleeps of 0.1 ms. Defaults as of --domains
  --peers a,b               v86, qemu, host (the programs without a machine) or none (v86,qemu,host)
  --width 64|32             the guest of our machine and of QEMU; v86 has 32-bit guests only (64)
  --rounds N                every machine runs so many times (3)
  --reps N                  repetitions of each program in a run (2)
  --timeout S               seconds a run may take (3600)
  --no-build                measure what is built
  --soak MINUTES            instead: all programs in node, compiled, until then; is the memory flat?
  --page                    instead: page open to first guest instruction, Boot to prompt, cost of an idle guest
  --profile                 instead: which instruction forms run how often, natively";

/// All programs of the guest in its own order, and the group each is reported in.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("intloop", "integer"),
    ("sieve", "integer"),
    ("coremark", "integer"),
    ("sha256", "integer"),
    ("qsort", "integer"),
    ("interp", "integer"),
    ("fib35", "integer"),
    ("gzip", "integer"),
    ("bbsha", "integer"),
    ("matmul", "float"),
    ("matmul_sse2", "float"),
    ("nbody", "float"),
    ("memcpy", "memory"),
    ("repmovs", "memory"),
    ("ptrchase", "memory"),
    ("getpid", "system"),
    ("fork", "system"),
    ("forkexec", "system"),
    ("pipe", "system"),
    ("mmap", "system"),
    ("pagefault", "system"),
    ("file", "system"),
    ("smc", "code"),
    ("bigcode", "code"),
    ("diskread", IO),
    ("diskdirect", IO),
    ("diskwrite", IO),
    ("wakeup", IO),
];
/// The group that another guest has.
pub const IO: &str = "io";
/// What `--domains` runs.
const SYSTEM: &str = "getpid,fork,forkexec,pipe,mmap,pagefault,file";
/// What `--quick` runs.
const QUICK: &str = "sieve,coremark,qsort,interp,fib35";

/// What is measured, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// These programs.
    pub only: Vec<String>,
    /// On these machines.
    pub who: Vec<Who>,
    /// Bits of the guest.
    pub width: u8,
    /// How often each machine runs.
    pub rounds: u32,
    /// Repetitions of each program in a run.
    pub reps: u32,
    /// Seconds that a run may take.
    pub timeout: u64,
    /// What is measured is built first.
    pub build: bool,
    /// `--profile`.
    pub profile: bool,
    /// `--page`.
    pub page: bool,
    /// `--io`.
    pub io: bool,
    /// `--soak`: minutes.
    pub soak: Option<u32>,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(args: &[String]) -> Result<Self> {
        let (mut only, mut quick, mut jit, mut domains, mut places, mut peers) =
            (None, false, false, false, None, None);
        let (mut width, mut rounds, mut reps, mut timeout, mut build, mut profile) =
            (64, None, None, 3600, true, false);
        let (mut page, mut io, mut soak) = (false, false, None);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().map(String::as_str).with_context(|| format!("{arg} wants a value\n\n{HELP}"));
            let number = |text: &str| {
                text.parse::<u32>()
                    .ok()
                    .filter(|n| *n > 0)
                    .with_context(|| format!("{arg} {text}: not a number above 0"))
            };
            match arg.as_str() {
                "--quick" => quick = true,
                "--jit" => jit = true,
                "--domains" => domains = true,
                "--only" => only = Some(value()?.to_owned()),
                "--where" => places = Some(value()?),
                "--peers" => peers = Some(value()?),
                "--width" => {
                    width = match value()? {
                        "64" => 64,
                        "32" => 32,
                        other => bail!("--width is 64 or 32, not {other}"),
                    }
                }
                "--rounds" => rounds = Some(number(value()?)?),
                "--reps" => reps = Some(number(value()?)?),
                "--timeout" => timeout = number(value()?)?.into(),
                "--no-build" => build = false,
                "--profile" => profile = true,
                "--page" => page = true,
                "--io" => (io, domains) = (true, true),
                "--soak" => soak = Some(number(value()?)?),
                "--help" | "-h" => bail!("{HELP}"),
                other => bail!("bench has no option `{other}`\n\n{HELP}"),
            }
        }
        let list =
            |text: &str| -> Vec<String> { text.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect() };
        let only = only.as_deref().or(quick.then_some(QUICK)).or((domains && !io).then_some(SYSTEM));
        let known: Vec<&str> =
            PROGRAMS.iter().filter(|(_, group)| (*group == IO) == io).map(|(name, _)| *name).collect();
        let only = match only {
            None | Some("all") => known.iter().map(|name| (*name).to_owned()).collect(),
            Some(text) => list(text),
        };
        if let Some(name) = only.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("there is no program `{name}`; there are {}", known.join(", "));
        }
        let mut who = Vec::new();
        let places = places.unwrap_or(match (domains, jit) {
            (true, _) => "node-jit,node-pvh,node-pv,chromium-jit,chromium-pvh,chromium-pv",
            (false, true) => "node-jit,chromium-jit",
            (false, false) => "node,chromium,native",
        });
        for place in list(places) {
            who.push(Who::ours_named(&place).with_context(|| {
            format!(
                "--where is node, chromium or native, node or chromium with -jit, -pvh or -pv behind it, not {place}"
            )
        })?);
        }
        let peers = peers.unwrap_or(match (domains, quick) {
            (true, _) => "none",
            (false, true) => "v86,host",
            (false, false) => "v86,qemu,host",
        });
        for peer in list(peers) {
            match peer.as_str() {
                // Beside ours wherever ours runs.
                "v86" => {
                    who.push(Who::V86Node);
                    if who.iter().any(|who| who.in_browser()) {
                        who.push(Who::V86Chromium);
                    }
                }
                "qemu" => who.push(Who::Qemu),
                "host" => who.push(Who::Host),
                "none" => {}
                other => bail!("--peers is v86, qemu, host or none, not {other}"),
            }
        }
        if io && (width == 32 || who.iter().any(|who| !who.ours_on_the_web())) {
            bail!("--io is for our machine in node and Chromium, with a guest of 64 bits");
        }
        if width == 32 && who.iter().any(|who| who.mode() == "pv") {
            bail!("a PV domain is 64 bits wide: with --width 32 leave node-pv and chromium-pv out");
        }
        let rounds = rounds.unwrap_or(if quick { 1 } else { 3 });
        Ok(Self { only, who, width, rounds, reps: reps.unwrap_or(2), timeout, build, profile, page, io, soak })
    }

    /// The command line of the guest's kernel.
    pub fn cmdline(&self, who: Who) -> String {
        if self.io {
            return bench_io::cmdline(who);
        }
        let all = self.only.len() == PROGRAMS.iter().filter(|(_, group)| *group != IO).count();
        let programs = if all { "all".to_owned() } else { self.only.join(",") };
        let console = if who.mode() == "pc" { "ttyS0" } else { "hvc0" };
        format!("console={console} loglevel=3 mitigations=off bench={programs} reps={}", self.reps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn quick_is_short_and_yields_to_what_is_said() {
        let o = parse("--quick").unwrap();
        assert_eq!((o.only.join(","), o.rounds), (QUICK.to_owned(), 1));
        assert_eq!(o.who, [Who::Node, Who::Chromium, Who::Native, Who::V86Node, Who::V86Chromium, Who::Host]);
        let o = parse("--quick --jit").unwrap();
        assert_eq!(o.who, [Who::NodeJit, Who::ChromiumJit, Who::V86Node, Who::V86Chromium, Who::Host]);
        let o = parse("--where node,node-jit --peers v86").unwrap();
        assert_eq!(o.who, [Who::Node, Who::NodeJit, Who::V86Node]);
        let o = parse("--quick --only fib35,fork --rounds 2 --where native --peers qemu").unwrap();
        assert_eq!((o.only.join(","), o.rounds, o.who), ("fib35,fork".into(), 2, vec![Who::Native, Who::Qemu]));
        assert!(parse("").unwrap().cmdline(Who::Node).contains("bench=all reps=2"));
    }

    #[test]
    fn domains_are_measured_beside_the_pc() {
        let o = parse("--domains --where node-jit,node-pvh,node-pv").unwrap();
        assert_eq!(
            (o.only.join(",").as_str(), o.who.as_slice()),
            (SYSTEM, &[Who::NodeJit, Who::NodePvh, Who::NodePv][..])
        );
        assert!(o.cmdline(Who::NodePv).starts_with("console=hvc0") && Who::NodePv.compiles());
        assert_eq!(parse("--domains").unwrap().who.len(), 6);
    }

    #[test]
    fn disks_and_timers_have_their_own_guest() {
        let o = parse("--io --where node-jit,node-pvh").unwrap();
        assert_eq!(o.only, ["diskread", "diskdirect", "diskwrite", "wakeup"]);
        assert!(o.cmdline(Who::NodePvh).contains("/bench/run"));
        assert_eq!(parse("--io --only wakeup").unwrap().only, ["wakeup"]);
        assert!(!parse("").unwrap().only.contains(&"wakeup".to_owned()));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("--only fib36", "no program `fib36`"),
            ("--where moon", "not moon"),
            ("--peers bochs", "not bochs"),
            ("--width 16", "not 16"),
            ("--rounds 0", "not a number above 0"),
            ("--rounds", "wants a value"),
            ("--domains --width 32", "64 bits wide"),
            ("--io --where native", "in node and Chromium"),
            ("--io --only fork", "no program `fork`; there are diskread"),
            ("--only wakeup", "no program `wakeup`"),
            ("--bogus", "--bogus"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
