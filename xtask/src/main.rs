//! `cargo xtask`: sets up the machine, builds the page and its guests, serves and tests them.
//!
//! This file only reads the command line. Each command is one module; `need` is the list of what the
//! machine must have, `fix` installs it, `project` knows where everything lies.

mod bench;
mod bench_guest;
mod bench_io;
mod bench_options;
mod bench_report;
mod bench_soak;
mod bench_who;
mod code;
mod count;
mod doctor;
mod fix;
mod image;
mod need;
mod probe;
mod proc;
mod project;
mod run;
mod serve;
mod suite;
mod version;
mod web;
mod xtf;
mod xtf_expected;

use anyhow::{Result, bail};
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  serve [--port 8086] [--no-build]   build page and guests, serve them on this machine
  test [STEP ...]                    set up, then every check and test (`test --list` names the steps)
  ci                                 what continuous integration runs: the same as `test`

  doctor                             say what this machine has and lacks, and why it is needed
  setup                              install what is missing
  web                                build the page's WebAssembly into www/pkg
  image [NAME ...]                   build guest images into images/out (no name: list them)
  bench [options]                    our machine beside v86 and QEMU on the same programs (`bench --help`)
  run IMAGE [options]                boot an image here, its serial console in this terminal
  code IMAGE [options]               the WebAssembly that code of a guest becomes, as text (`code` alone: its options)
  xtf FOLDER [NAME ...]              the built Xen Test Framework in FOLDER, beside what real Xen gives
  help                               this text";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<ExitCode> {
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let done = |()| ExitCode::SUCCESS;
    match command {
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        "doctor" => no_args(command, rest).and_then(|()| doctor::run()),
        "setup" => no_args(command, rest).and_then(|()| fix::setup(need::Use::ALL)).map(done),
        "web" => no_args(command, rest).and_then(|()| web::command()).map(done),
        "image" => image::command(rest).map(done),
        "serve" => serve::command(rest).map(done),
        "test" => suite::command(rest),
        "ci" => no_args(command, rest).and_then(|()| suite::command(&[])),
        "bench" => bench::command(rest).map(done),
        "run" => run::command(rest),
        "code" => code::command(rest).map(done),
        "xtf" => xtf::command(rest),
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}

fn no_args(command: &str, rest: &[String]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(extra) => bail!("`cargo xtask {command}` takes no arguments, got `{extra}`"),
    }
}
