//! What a toolstack could ask of a domain, as commands: Ctrl-A, colon, and one of these.

use anyhow::{Result, bail};
use tabvisor_devices::effect::{Control, Input, Shutdown};

/// The commands.
pub const HELP: &str = "\
commands for domains: poweroff, halt, reboot, suspend (the guest is asked to);
resume (a suspended guest goes on as one that was restored), resume cancelled (as one that was not saved);
sysrq KEY (its kernel obeys a key); memory MB (it gives memory back, or takes it); memory (how much it has)";

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
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(Command::Tell(Input::Control(match words[..] {
        ["memory"] => return Ok(Command::Memory),
        ["memory", mib] if mib.parse::<u32>().is_ok() => Control::Memory(mib.parse::<u64>()? << 20),
        ["poweroff"] => Control::Shutdown(Shutdown::PowerOff),
        ["halt"] => Control::Shutdown(Shutdown::Halt),
        ["reboot"] => Control::Shutdown(Shutdown::Reboot),
        ["suspend"] => Control::Shutdown(Shutdown::Suspend),
        ["resume"] => Control::Resume { cancelled: false },
        ["resume", "cancelled"] => Control::Resume { cancelled: true },
        ["sysrq", key] if key.len() == 1 => Control::SysRq(key.as_bytes()[0]),
        _ => bail!("{line:?} is no command. {HELP}"),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

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
