//! `cargo xtask serve`: the page on this machine, with the headers a page with workers and WebAssembly wants.
//!
//! Only for development: plain HTTP on the loopback interface, files only, nothing is written.

mod answer;
mod date;
mod files;
mod request;
mod server;

pub use server::Server;

use crate::fix;
use crate::image;
use crate::need::Use;
use crate::project::Project;
use crate::web;
use anyhow::{Context, Result, bail};
use files::Files;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    port: u16,
    build: bool,
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options { port: 8086, build: true };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--no-build" => options.build = false,
            "--port" => {
                let text = args.next().context("--port wants a number")?;
                options.port = text.parse().with_context(|| format!("`{text}` is not a port number (0 to 65535)"))?;
            }
            other => bail!("serve knows --port N and --no-build, not `{other}`"),
        }
    }
    Ok(options)
}

/// Sets up, builds and serves until interrupted.
pub fn command(args: &[String]) -> Result<()> {
    let options = options(args)?;
    let project = Project::find()?;
    if options.build {
        fix::setup(Use::SERVE)?;
        web::build(&project)?;
        default_image();
    } else if !project.at("www/pkg").is_dir() {
        println!("warning: www/pkg is not built; the page will say so. `cargo xtask serve` builds it");
    }
    let server = start(&project, options.port)?;
    println!("\n  Tabvisor is at  {}\n\n(Ctrl-C stops it)", server.url());
    server.run()
}

/// A server for the page and its images on `port`, or on the next free one.
pub fn start(project: &Project, port: u16) -> Result<Server> {
    // Longest prefix first: the images are not inside www.
    Server::bind(port, Files::new(&[("/images/", project.at("images/out")), ("/", project.at("www"))])?)
}

/// Builds the default guest; `hello` is part of the page. Without a package client, or without network, the
/// page still has that one and whatever was built before.
fn default_image() {
    const NAME: &str = "linux64";
    match image::build(NAME) {
        Ok(path) => println!("image    {NAME}: {}", path.display()),
        Err(error) => {
            println!("image    {NAME}: not built: {error:#}");
            println!("         the page goes on without it; `cargo xtask image {NAME}` tries again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Options> {
        options(&args.iter().map(|&arg| arg.into()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        assert_eq!(read(&[]).unwrap(), Options { port: 8086, build: true });
        assert_eq!(read(&["--no-build", "--port", "0"]).unwrap(), Options { port: 0, build: false });
    }

    #[test]
    fn bad_options_say_what_is_wrong() {
        for (args, says) in [
            (&["--port"][..], "wants a number"),
            (&["--port", "70000"], "not a port number"),
            (&["--port", "-1"], "not a port number"),
            (&["--open"], "--open"),
        ] {
            let error = format!("{:#}", read(args).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
