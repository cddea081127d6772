//! What a toolstack could ask of a domain, as commands: Ctrl-A, colon, and one of these.

use anyhow::{Result, bail};
use tabvisor_devices::effect::{Control, Input, Shutdown};

/// The commands.
pub const HELP: &str = "\
commands for domains: poweroff, halt, reboot (the guest is asked to);
sysrq KEY (its kernel obeys a key)";

/// The input of a command.
///
/// # Errors
/// There is no such command.
pub fn read(line: &str) -> Result<Input> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(Input::Control(match words[..] {
        ["poweroff"] => Control::Shutdown(Shutdown::PowerOff),
        ["halt"] => Control::Shutdown(Shutdown::Halt),
        ["reboot"] => Control::Shutdown(Shutdown::Reboot),
        ["sysrq", key] if key.len() == 1 => Control::SysRq(key.as_bytes()[0]),
        _ => bail!("{line:?} is no command. {HELP}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_inputs() {
        assert_eq!(read(" reboot ").unwrap(), Input::Control(Control::Shutdown(Shutdown::Reboot)));
        assert_eq!(read("sysrq h").unwrap(), Input::Control(Control::SysRq(b'h')));
    }

    #[test]
    fn what_is_no_command_is_said_to_be_none() {
        for line in ["", "reboot now", "sysrq", "sysrq hh", "sysrq \u{e4}", "Halt"] {
            assert!(read(line).unwrap_err().to_string().contains("is no command"), "{line}");
        }
    }
}
