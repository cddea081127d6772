//! What a toolstack could ask of a domain, as commands: Ctrl-A, colon, and one of these.

use anyhow::{Result, bail};
use tabvisor_devices::effect::{Control, Input};

/// The commands.
pub fn help() -> String {
    format!("commands for domains: {}; memory (how much it has)", Control::WORDS)
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// This, of the machine.
    Tell(Input),
    /// How much memory the domain has.
    Memory,
}

/// A command.
///
/// # Errors
/// There is no such command.
pub fn read(line: &str) -> Result<Command> {
    if line.trim() == "memory" {
        return Ok(Command::Memory);
    }
    match line.parse() {
        Ok(control) => Ok(Command::Tell(Input::Control(control))),
        Err(_) => bail!("{line:?} is no command. {}", help()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tabvisor_devices::effect::Shutdown;

    #[test]
    fn commands_become_inputs() {
        let control = |line| match read(line).unwrap() {
            Command::Tell(Input::Control(control)) => control,
            other => panic!("{other:?}"),
        };
        assert_eq!(control(" reboot "), Control::Shutdown(Shutdown::Reboot));
        assert_eq!(control("sysrq h"), Control::SysRq(b'h'));
        assert_eq!(control("memory 200"), Control::Memory(200 << 20));
        assert_eq!(control("suspend"), Control::Shutdown(Shutdown::Suspend));
        assert_eq!(control("resume"), Control::Resume { cancelled: false });
        assert_eq!(control("resume cancelled"), Control::Resume { cancelled: true });
        assert_eq!(read("memory").unwrap(), Command::Memory);
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none() {
        for line in ["", "reboot now", "sysrq", "sysrq hh", "sysrq \u{e4}", "Halt", "memory 1G", "memory 99999999999"] {
            assert!(read(line).unwrap_err().to_string().contains("is no command"), "{line}");
        }
    }
}
