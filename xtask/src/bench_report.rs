//! What runs measured, as tables: medians, ratios to each peer, geometric means per group, MIPS.

use crate::bench_options::PROGRAMS;
use crate::bench_who::Who;
use serde_json::{Value, json};
use std::fmt::Write;

/// One timing of one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The program.
    pub name: String,
    /// Wall seconds.
    pub wall: f64,
    /// CPU seconds.
    pub cpu: f64,
    /// Guest instructions, from our machines.
    pub instructions: Option<f64>,
    /// How many of them ran compiled, from machines that compile and tell at the markers.
    pub compiled: Option<f64>,
    /// The program's result.
    pub check: String,
}

/// One run of one machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The machine.
    pub who: Who,
    /// Wall and CPU seconds from power-on to `/init`, and instructions.
    pub boot: (Option<f64>, Option<f64>, Option<f64>),
    /// What its compiler did in all (`compiledFigures` in `www/wasm.js`).
    pub code: Value,
    /// Its timings, in order.
    pub samples: Vec<Sample>,
    /// What went wrong.
    pub errors: Vec<String>,
}

impl Run {
    /// Reads a result file; the peers' runners write the same names.
    pub fn read(who: Who, value: &Value) -> Self {
        let sample = |v: &Value| -> Option<Sample> {
            Some(Sample {
                name: v["name"].as_str()?.to_owned(),
                wall: v["host"].as_f64()?,
                cpu: v["cpu"].as_f64()?,
                // v86's counter has 32 bits and wraps.
                instructions: v["insns"].as_f64().filter(|_| who.ours()),
                compiled: v["compiled"].as_f64(),
                check: v["check"].as_str().unwrap_or_default().to_owned(),
            })
        };
        let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        Self {
            who,
            boot: (value["boot"].as_f64(), value["bootcpu"].as_f64(), value["bootinsns"].as_f64()),
            code: value["code"].clone(),
            samples: list("results").iter().filter_map(sample).collect(),
            errors: list("errors").iter().map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned)).collect(),
        }
    }
}

/// The tables for people, and the same for programs.
pub struct Report {
    /// Markdown.
    pub text: String,
    /// Everything in it.
    pub json: Value,
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    let n = values.len();
    match n {
        0 => None,
        _ if n % 2 == 1 => Some(values[n / 2]),
        _ => Some((values[n / 2 - 1] + values[n / 2]) / 2.0),
    }
}

/// The geometric mean; none if a value is missing, so that means are of the same programs.
fn geometric(values: &[Option<f64>]) -> Option<f64> {
    let logs: Option<Vec<f64>> = values.iter().map(|v| v.filter(|v| *v > 0.0).map(f64::ln)).collect();
    logs.filter(|l| !l.is_empty()).map(|l| (l.iter().sum::<f64>() / l.len() as f64).exp())
}

fn show(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(v) if v < 1.0 => format!("{v:.3}"),
        Some(v) if v < 10.0 => format!("{v:.2}"),
        Some(v) if v < 100.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.0}"),
    }
}

struct Table<'a> {
    runs: &'a [Run],
    only: &'a [String],
    who: Vec<Who>,
}

impl Table<'_> {
    fn values(&self, who: Who, name: &str, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.who == who);
        median(runs.flat_map(|run| &run.samples).filter(|s| s.name == name).filter_map(of).collect())
    }
    fn cpu(&self, who: Who, name: &str) -> Option<f64> {
        self.values(who, name, |s| Some(s.cpu))
    }
    /// From the machine's own count; where it has none at the markers (Chromium), from our other machines'.
    fn mips(&self, who: Who, name: &str) -> Option<f64> {
        let own = self.values(who, name, |s| s.instructions.filter(|_| s.cpu > 0.0).map(|n| n / s.cpu / 1e6));
        own.or_else(|| {
            let counts = self.runs.iter().flat_map(|run| &run.samples).filter(|s| s.name == name);
            Some(median(counts.filter_map(|s| s.instructions).collect())? / self.cpu(who, name)? / 1e6)
        })
    }
    /// CPU seconds of a program's first repetition.
    fn first(&self, who: Who, name: &str) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.who == who);
        median(runs.filter_map(|run| run.samples.iter().find(|s| s.name == name)).map(|s| s.cpu).collect())
    }
    /// How many in a hundred instructions ran compiled.
    fn compiled(&self, who: Who, name: &str) -> Option<f64> {
        self.values(who, name, |s| Some(100.0 * s.compiled? / s.instructions.filter(|n| *n > 0.0)?))
    }
    fn ratio(&self, who: Who, peer: Who, name: &str) -> Option<f64> {
        Some(self.cpu(who, name)? / self.cpu(peer, name)?).filter(|r| r.is_finite())
    }
    fn boot(&self, who: Who, of: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        median(self.runs.iter().filter(|run| run.who == who).filter_map(of).collect())
    }

    /// The programs of each group that were asked for.
    fn groups(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for &(name, group) in PROGRAMS.iter().filter(|(name, _)| self.only.iter().any(|o| o == name)) {
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, names)) => names.push(name),
                None => groups.push((group, vec![name])),
            }
        }
        groups
    }

    /// A table with a column for each head, a row for each program and the geometric mean of each group.
    fn print(
        &self,
        text: &mut String,
        title: &str,
        heads: &[String],
        means: bool,
        cell: impl Fn(usize, &str) -> Option<f64>,
    ) -> Value {
        let _ = writeln!(
            text,
            "\n### {title}\n\n| program | {} |\n|---|{}",
            heads.join(" | "),
            "---:|".repeat(heads.len())
        );
        let mut json = serde_json::Map::new();
        let mut row = |name: &str, values: Vec<Option<f64>>| {
            let cells: Vec<String> = values.iter().map(|v| show(*v)).collect();
            let _ = writeln!(text, "| {name:<13} | {} |", cells.join(" | "));
            json.insert(
                name.trim_matches('*').to_owned(),
                heads.iter().cloned().zip(values.iter().map(|v| json!(v))).collect(),
            );
        };
        for (group, names) in self.groups() {
            for name in &names {
                row(name, (0..heads.len()).map(|h| cell(h, name)).collect());
            }
            if means {
                let mean = |h: usize| geometric(&names.iter().map(|name| cell(h, name)).collect::<Vec<_>>());
                row(&format!("**{group} ({})**", names.len()), (0..heads.len()).map(mean).collect());
            }
        }
        Value::Object(json)
    }
}

/// Makes the report of these runs and programs.
pub fn make(runs: &[Run], only: &[String], notes: &[String]) -> Report {
    let mut who: Vec<Who> = Vec::new();
    for run in runs {
        if !who.contains(&run.who) {
            who.push(run.who);
        }
    }
    let table = Table { runs, only, who };
    let mut text = String::from("# Benchmark\n\n");
    for note in notes {
        let _ = writeln!(text, "- {note}");
    }
    let _ = writeln!(
        text,
        "- medians of all repetitions; ratios of CPU seconds; MIPS are retired guest instructions by CPU seconds"
    );
    let names = |who: &[Who]| -> Vec<String> { who.iter().map(|w| w.name().to_owned()).collect() };
    let ours: Vec<Who> = table.who.iter().copied().filter(|w| w.ours()).collect();
    let all = names(&table.who);
    let mut json = json!({ "notes": notes });

    json["cpu"] = table.print(&mut text, "CPU seconds", &all, false, |h, name| table.cpu(table.who[h], name));
    json["wall"] = table
        .print(&mut text, "Wall seconds", &all, false, |h, name| table.values(table.who[h], name, |s| Some(s.wall)));
    json["mips"] = table.print(&mut text, "MIPS", &names(&ours), true, |h, name| table.mips(ours[h], name));
    let pairs: Vec<(Who, Who)> = ours
        .iter()
        .flat_map(|&our| {
            let peer = move |p: &&Who| !p.ours() || our.same_as_pc() == Some(**p);
            table.who.iter().filter(peer).map(move |&peer| (our, peer))
        })
        // A browser is compared with a browser.
        .filter(|(our, peer)| match peer {
            Who::V86Chromium | Who::V86Node => our.in_browser() == peer.in_browser(),
            _ => true,
        })
        .collect();
    let heads: Vec<String> = pairs.iter().map(|(our, peer)| format!("{} / {}", our.name(), peer.name())).collect();
    if !pairs.is_empty() {
        let title = "Ratios of CPU time (below 1: ours is faster)";
        json["ratio"] =
            table.print(&mut text, title, &heads, true, |h, name| table.ratio(pairs[h].0, pairs[h].1, name));
        let title = "First repetitions: ratios of CPU time";
        json["first"] = table.print(&mut text, title, &heads, true, |h, name| {
            let (our, peer) = pairs[h];
            Some(table.first(our, name)? / table.first(peer, name)?).filter(|r| r.is_finite())
        });
    }
    let compiling: Vec<Who> = ours.iter().copied().filter(|w| w.compiles()).collect();
    if !compiling.is_empty() {
        let title = "Instructions that ran compiled, in a hundred";
        let heads = names(&compiling);
        json["compiled"] = table.print(&mut text, title, &heads, false, |h, name| table.compiled(compiling[h], name));
        json["code"] = code(&mut text, runs);
    }

    let _ = writeln!(
        text,
        "\n### Power-on to /init\n\n| machine | wall s | CPU s | M instructions |\n|---|---:|---:|---:|"
    );
    let mut boots = serde_json::Map::new();
    for &who in table.who.iter().filter(|&&who| who != Who::Host) {
        let (wall, cpu) = (table.boot(who, |r| r.boot.0), table.boot(who, |r| r.boot.1));
        let million = table.boot(who, |r| r.boot.2.map(|n| n / 1e6));
        let _ = writeln!(text, "| {} | {} | {} | {} |", who.name(), show(wall), show(cpu), show(million));
        boots.insert(who.name().into(), json!({ "wall": wall, "cpu": cpu, "minsns": million }));
    }
    json["boot"] = Value::Object(boots);

    let wrong = disagreements(runs);
    json["disagreements"] = json!(wrong);
    let _ = writeln!(
        text,
        "\n{}",
        if wrong.is_empty() { "All machines of a width gave the same results.".into() } else { wrong.join("\n") }
    );
    Report { text, json }
}

/// What compilers did in each run from power-on to its end.
fn code(text: &mut String, runs: &[Run]) -> Value {
    const FIGURES: [(&str, &str); 8] = [
        ("regions", "regions"),
        ("moduleBytes", "bytes"),
        ("compiled", "instructions"),
        ("entered", "entered"),
        ("hops", "hops"),
        ("stopped", "stopped"),
        ("short", "short"),
        ("faults", "faults"),
    ];
    let heads = FIGURES.map(|f| f.1).join(" | ");
    let _ =
        writeln!(text, "\n### Compilers' figures of whole runs\n\n| machine | {heads} |\n|---|{}", "---:|".repeat(8));
    let mut json = Vec::new();
    for run in runs.iter().filter(|run| run.code.is_object()) {
        let cells = FIGURES.map(|(key, _)| run.code[key].as_f64().map_or("-".into(), |n| format!("{n:.0}")));
        let _ = writeln!(text, "| {} | {} |", run.who.name(), cells.join(" | "));
        json.push(json!({ "machine": run.who.name(), "figures": run.code }));
    }
    json.into()
}

/// Programs whose result is not the same on all machines. v86's guests are 32 bits wide, so that addresses,
/// widths and x87 arithmetic may show in theirs: they are compared with one another only.
fn disagreements(runs: &[Run]) -> Vec<String> {
    let narrow = |who: Who| matches!(who, Who::V86Node | Who::V86Chromium);
    let mut wrong = Vec::new();
    for &(name, _) in PROGRAMS {
        for class in [false, true] {
            let of = runs.iter().filter(|run| narrow(run.who) == class);
            let mut checks: Vec<(&str, Who)> = of
                .flat_map(|run| run.samples.iter().filter(|s| s.name == name).map(|s| (s.check.as_str(), run.who)))
                .collect();
            checks.dedup();
            let Some(&(first, _)) = checks.first() else { continue };
            for (check, who) in checks.iter().filter(|(check, _)| *check != first) {
                wrong.push(format!(
                    "WRONG RESULT: {name} gave {check} on {}, {first} on {}",
                    who.name(),
                    checks[0].1.name()
                ));
            }
        }
    }
    wrong.dedup();
    wrong
}

/// The most frequent forms of a profiling run that go through a function pointer.
pub fn profile(value: &Value) -> String {
    let mut text = String::new();
    for program in value["profiles"].as_array().into_iter().flatten() {
        let forms: Vec<(&str, bool, bool, f64)> = program["forms"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|f| Some((f[0].as_str()?, f[1].as_bool()?, f[2].as_bool()?, f[3].as_f64()?)))
            .collect();
        let sum = |pick: &dyn Fn(bool, bool) -> bool| forms.iter().filter(|f| pick(f.1, f.2)).map(|f| f.3).sum::<f64>();
        let (total, alone) = (sum(&|_, alone| !alone), sum(&|_, alone| alone));
        let cold = sum(&|hot, alone| !hot && !alone);
        let name = program["name"].as_str().unwrap_or_default();
        let _ = writeln!(
            text,
            "\n{name}: {:.0} M instructions, {:.1} % without a hot form, {:.3} M run alone",
            total / 1e6,
            100.0 * cold / total.max(1.0),
            alone / 1e6
        );
        for (form, _, _, count) in forms.iter().filter(|f| !f.1 && !f.2).take(15) {
            let _ = writeln!(text, "  {:6.2} %  {form}", 100.0 * count / total.max(1.0));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(who: Who, name: &str, cpus: &[f64]) -> Run {
        let results: Vec<Value> = cpus
            .iter()
            .map(
                |cpu| json!({ "name": name, "host": cpu * 2.0, "cpu": cpu, "insns": 3e8, "check": "00aa", "iters": 1 }),
            )
            .collect();
        Run::read(who, &json!({ "boot": 20.0, "bootcpu": 10.0, "results": results, "errors": ["@@X"] }))
    }

    #[test]
    fn medians_ratios_and_mips_are_what_they_say() {
        let runs = [run(Who::Node, "sieve", &[2.0, 9.0, 3.0]), run(Who::V86Node, "sieve", &[1.0, 2.0])];
        assert_eq!((runs[0].samples.len(), runs[0].errors.len(), runs[1].samples[0].instructions), (3, 1, None));
        let report = make(&runs, &["sieve".into()], &["load 1".into()]);
        assert_eq!(report.json["cpu"]["sieve"], json!({ "node": 3.0, "v86-node": 1.5 }));
        assert_eq!(report.json["wall"]["sieve"]["node"], 6.0);
        assert_eq!(report.json["mips"]["sieve"]["node"], 100.0);
        let mut without = vec![runs[0].clone(), run(Who::Chromium, "sieve", &[6.0])];
        without[1].samples[0].instructions = None;
        assert_eq!(make(&without, &["sieve".into()], &[]).json["mips"]["sieve"]["chromium"], 50.0);
        assert_eq!(report.json["ratio"]["sieve"]["node / v86-node"], 2.0);
        assert_eq!(report.json["first"]["sieve"]["node / v86-node"], 2.0);
        assert_eq!(report.json["compiled"], Value::Null);
        let mean = report.json["mips"]["integer (1)"]["node"].as_f64().expect("a mean of one");
        assert!((mean - 100.0).abs() < 1e-9);
        assert!(report.text.contains("load 1") && report.text.contains("same results"), "{}", report.text);
    }

    #[test]
    fn a_domain_is_compared_with_the_pc_of_its_place() {
        let runs = [Who::NodeJit, Who::ChromiumJit, Who::NodePv].map(|who| run(who, "pipe", &[f64::from(who as u8)]));
        let report = make(&runs, &["pipe".into()], &[]);
        let ratio = f64::from(Who::NodePv as u8) / f64::from(Who::NodeJit as u8);
        assert_eq!(report.json["ratio"]["pipe"], json!({ "node-pv / node-jit": ratio }));
    }

    #[test]
    fn what_was_compiled_is_told() {
        let value = json!({
            "results": [{ "name": "sieve", "host": 2.0, "cpu": 1.0, "insns": 4e8, "compiled": 3e8, "check": "00aa" }],
            "code": { "regions": 12, "moduleBytes": 3456, "compiled": 3e8 },
        });
        let report = make(&[Run::read(Who::NodeJit, &value)], &["sieve".into()], &[]);
        assert_eq!(report.json["compiled"]["sieve"]["node-jit"], 75.0);
        assert_eq!(report.json["code"][0]["figures"]["regions"], 12);
        assert!(report.text.contains("| node-jit | 12 | 3456 | 300000000 | - |"), "{}", report.text);
    }

    #[test]
    fn a_mean_with_a_gap_is_none() {
        assert_eq!(geometric(&[Some(2.0), None]), None);
        assert_eq!(geometric(&[]), None);
        assert!((geometric(&[Some(2.0), Some(8.0)]).expect("both there") - 4.0).abs() < 1e-9);
    }

    #[test]
    fn another_result_on_a_machine_of_the_same_width_is_reported() {
        let mut runs =
            [run(Who::Node, "fork", &[1.0]), run(Who::Native, "fork", &[1.0]), run(Who::V86Node, "fork", &[1.0])];
        runs[2].samples[0].check = "other width".into();
        assert_eq!(disagreements(&runs), Vec::<String>::new());
        runs[1].samples[0].check = "00bb".into();
        assert!(disagreements(&runs)[0].contains("fork gave 00bb on native"));
    }
}
