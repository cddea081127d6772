//! `cargo xtask doctor`: one line per need, nothing changed.

use crate::need;
use crate::project::Project;
use anyhow::Result;
use std::process::ExitCode;

/// Prints the list; fails if something is missing, so that scripts can ask.
pub fn run() -> Result<ExitCode> {
    let project = Project::find()?;
    let needs = need::all(&project)?;
    for need in &needs {
        println!("{}", need.line(&project));
    }
    let open = needs.iter().filter(|need| !need.is_met()).count();
    if open == 0 {
        println!("everything is there");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{open} of {} to do: `cargo xtask setup` does what can be done without you", needs.len());
    Ok(ExitCode::FAILURE)
}
