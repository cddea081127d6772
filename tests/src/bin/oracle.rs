//! Command line of the oracle: see `USAGE`.

fn main() -> std::process::ExitCode {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    return linux::main();
    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    {
        eprintln!("oracle: the host side needs x86-64 Linux");
        std::process::ExitCode::FAILURE
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use anyhow::{Context, Result, bail};
    use std::process::ExitCode;
    use std::time::Instant;
    use tabvisor_tests::oracle::host::{self, Host};
    use tabvisor_tests::oracle::run::{self, Report, Stretch};
    use tabvisor_tests::oracle::state::*;
    use tabvisor_tests::oracle::subject::Interpreter;
    use tabvisor_tests::oracle::{compare, corpus, encoding, generator, masks, show, shrink};

    const USAGE: &str = "\
oracle selfcheck [N]              every test twice on the host; nothing may differ
oracle run [options]              the host against the subject; differences, grouped; exits 1 if there are any
oracle replay SEED INDEX          one test, its outcome and what the subject does differently
oracle shrink SEED INDEX          a differing test, made simple
oracle stats [N]                  histogram of encodings, and those never drawn
oracle record N FILE              a corpus of N tests per mode, all of them compared in full
oracle check FILE                 replay a corpus against the subject
options: --mode 64|32|16|both|all  --count N  --seed S  --from I  --threads T  --groups G  --subject interp|host";

    struct Options {
        modes: Vec<Mode>,
        count: u64,
        seed: u64,
        from: u64,
        threads: u64,
        groups: usize,
        subject: fn() -> Result<Box<dyn Subject>>,
        rest: Vec<String>,
    }

    fn options(args: impl Iterator<Item = String>) -> Result<Options> {
        let mut o = Options {
            modes: vec![Mode::Long64, Mode::Prot32],
            count: 200_000,
            seed: 1,
            from: 0,
            threads: 2,
            groups: 60,
            subject: interpreter,
            rest: vec![],
        };
        let mut args = args;
        while let Some(a) = args.next() {
            let Some(name) = a.strip_prefix("--") else {
                o.rest.push(a);
                continue;
            };
            let v = args.next().with_context(|| format!("{a} needs a value"))?;
            let n = || number(&v);
            match name {
                "mode" => {
                    o.modes = match v.as_str() {
                        "64" => vec![Mode::Long64],
                        "32" => vec![Mode::Prot32],
                        "16" => vec![Mode::Prot16],
                        "all" => vec![Mode::Long64, Mode::Prot32, Mode::Prot16],
                        "both" => vec![Mode::Long64, Mode::Prot32],
                        _ => bail!("no mode {v}"),
                    }
                }
                "count" => o.count = n()?,
                "seed" => o.seed = n()?,
                "from" => o.from = n()?,
                "threads" => o.threads = n()?.clamp(1, 64),
                "subject" => {
                    o.subject = match v.as_str() {
                        "host" => host_subject,
                        "interp" => interpreter,
                        _ => bail!("no subject {v}"),
                    }
                }
                "groups" => o.groups = n()? as usize,
                _ => bail!("no option {a}\n{USAGE}"),
            }
        }
        Ok(o)
    }

    fn number(s: &str) -> Result<u64> {
        let plain = s.replace('_', "");
        plain.parse().with_context(|| format!("{s} is not a number"))
    }

    /// Runs the stretches of all modes on all threads against subjects made by `make`.
    fn all(o: &Options, make: fn() -> Result<Box<dyn Subject>>) -> Result<(Report, u64)> {
        let mut total = Report::default();
        let mut killed = 0;
        for &mode in &o.modes {
            let share = o.count.div_ceil(o.threads);
            let parts: Vec<Result<(Report, u64)>> = std::thread::scope(|scope| {
                let handles: Vec<_> = (0..o.threads)
                    .map(|i| {
                        let first = o.from + i * share;
                        let count = share.min((o.from + o.count).saturating_sub(first));
                        scope.spawn(move || {
                            let mut truth = Host::new()?;
                            let mut subject = make()?;
                            let s = Stretch { mode, seed: o.seed, first, count };
                            Ok((run::run(s, &mut truth, &mut *subject, host::vendor()), truth.killed))
                        })
                    })
                    .collect();
                handles.into_iter().map(|h| h.join().expect("a worker does not panic")).collect()
            });
            for p in parts {
                let (report, k) = p?;
                total.merge(report);
                killed += k;
            }
        }
        Ok((total, killed))
    }

    fn interpreter() -> Result<Box<dyn Subject>> {
        Ok(Box::new(Interpreter::new()))
    }

    fn host_subject() -> Result<Box<dyn Subject>> {
        Ok(Box::new(Host::new()?))
    }

    /// Records `count` tests of each mode that are compared in full, fewer of the encodings that come often.
    fn record(o: &Options, file: &str) -> Result<()> {
        let mut truth = Host::new()?;
        let mut cases = Vec::new();
        for &mode in &o.modes {
            let s = Stretch { mode, seed: o.seed, first: o.from, count: u64::MAX / 2 };
            cases.extend(run::collect(s, o.count as usize, &mut truth, host::vendor()));
        }
        let header = corpus::Header { vendor: host::vendor(), cpuid: host::cpuid() };
        let data = corpus::encode(&header, &cases);
        std::fs::write(file, &data).with_context(|| format!("cannot write {file}"))?;
        println!("{} tests, {} bytes", cases.len(), data.len());
        Ok(())
    }

    fn differ(t: &Test, want: &Out, subject: &mut dyn Subject) -> Vec<compare::Diff> {
        let mut got = Out::unchanged(t);
        subject.run(t, &mut got);
        compare::compare(t, want, &got, &masks::mask(t, &encoding::decode(t), want, host::vendor()))
    }

    /// Simplifies a test that differs, keeping its encoding and the fields that differ.
    fn shrink_one(o: &Options, t: &Test) -> Result<()> {
        let mut truth = Host::new()?;
        let mut subject = (o.subject)()?;
        let mut verdict = |t: &Test| {
            let mut want = Out::unchanged(t);
            truth.run(t, &mut want);
            let d = differ(t, &want, &mut *subject);
            (encoding::decode(t).code(), show::fields(&d), want, d)
        };
        let (code, fields, _, d) = verdict(t);
        if d.is_empty() {
            println!("{:?}: no difference", t.mode);
            return Ok(());
        }
        let small = shrink::shrink(t, &mut |t| {
            let v = verdict(t);
            v.0 == code && v.1 == fields
        });
        let (_, _, want, d) = verdict(&small);
        print!("{}host:\n{}", show::test(&small), show::outcome(&small, &want));
        println!("subject: {}", show::diffs(&d));
        Ok(())
    }

    fn report(o: &Options, started: Instant, (r, killed): &(Report, u64)) -> bool {
        print!("{}", r.differences(o.groups));
        for (mode, index) in r.killed.iter().take(20) {
            println!("the host could not run {mode:?} seed {} index {index}", o.seed);
        }
        let s = started.elapsed().as_secs_f64();
        println!("{}; {killed} killed; {s:.1} s, {:.0} tests/s", r.summary(), r.tests as f64 / s);
        r.different == 0
    }

    fn command(args: Vec<String>) -> Result<bool> {
        let mut args = args.into_iter();
        let Some(name) = args.next() else { bail!("{USAGE}") };
        let mut o = options(args)?;
        if matches!(name.as_str(), "selfcheck" | "stats" | "record") && !o.rest.is_empty() {
            o.count = number(&o.rest.remove(0))?;
        }
        let started = Instant::now();
        match name.as_str() {
            "selfcheck" => Ok(report(&o, started, &all(&o, host_subject)?)),
            "run" => Ok(report(&o, started, &all(&o, o.subject)?)),
            "stats" => {
                let (r, _) = all(&o, host_subject)?;
                print!("{}", r.histogram());
                for &mode in &o.modes {
                    let all = encoding::all_wanted(mode);
                    let never: Vec<_> = all.iter().filter(|c| !r.hits.contains_key(&(mode, **c))).collect();
                    println!("{mode:?}: {} encodings wanted, never drawn: {never:?}", all.len());
                }
                println!("{}", r.summary());
                Ok(true)
            }
            "replay" => {
                let [seed, index] = &o.rest[..] else { bail!("{USAGE}") };
                for &mode in &o.modes {
                    let t = generator::generate(mode, number(seed)?, number(index)?);
                    let mut out = Out::unchanged(&t);
                    Host::new()?.run(&t, &mut out);
                    print!("{}host:\n{}", show::test(&t), show::outcome(&t, &out));
                    let d = differ(&t, &out, &mut *(o.subject)()?);
                    println!("subject: {}", show::diffs(&d));
                }
                Ok(true)
            }
            "shrink" => {
                let [seed, index] = &o.rest[..] else { bail!("{USAGE}") };
                for &mode in &o.modes {
                    shrink_one(&o, &generator::generate(mode, number(seed)?, number(index)?))?;
                }
                Ok(true)
            }
            "record" => {
                let [file] = &o.rest[..] else { bail!("{USAGE}") };
                record(&o, file)?;
                Ok(true)
            }
            "check" => {
                let [file] = &o.rest[..] else { bail!("{USAGE}") };
                let data = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
                let (header, cases) = corpus::decode(&data)?;
                let r = run::check(&header, &cases, &mut *(o.subject)()?);
                Ok(report(&o, started, &(r, 0)))
            }
            _ => bail!("no command {name}\n{USAGE}"),
        }
    }

    pub fn main() -> ExitCode {
        match command(std::env::args().skip(1).collect()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(e) => {
                eprintln!("oracle: {e:#}");
                ExitCode::from(2)
            }
        }
    }
}
