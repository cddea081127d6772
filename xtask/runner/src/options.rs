//! The command line of the runner.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use tabvisor_devices::backend::display::{DisplayConfig, MAX_PIXELS, MAX_SIDE};
use tabvisor_devices::machine::Mode;

/// A disk of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its contents at first. The file is never written.
    pub file: PathBuf,
    /// The guest cannot write to it. Otherwise what it writes is kept in memory until the end.
    pub read_only: bool,
    /// Its data is read when the guest needs it, as a page does from a server; otherwise before it boots.
    pub lazy: bool,
}

impl Disk {
    fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let file = PathBuf::from(parts.next().unwrap_or_default());
        let mut disk = Self { file, read_only: false, lazy: false };
        for part in parts {
            match part {
                "ro" => disk.read_only = true,
                "lazy" => disk.lazy = true,
                other => bail!("a disk is FILE, FILE,ro, FILE,lazy or both, not `{other}`"),
            }
        }
        Ok(disk)
    }
}

/// A display of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Its size.
    pub size: DisplayConfig,
    /// Where its last picture goes.
    pub file: Option<PathBuf>,
}

impl Screen {
    fn parse(text: &str) -> Result<Self> {
        let (size, file) = text.split_once(',').map_or((text, None), |(size, file)| (size, Some(PathBuf::from(file))));
        let sides = size.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let (width, height) = sides.with_context(|| format!("a display is WxH or WxH,FILE.ppm, not `{text}`"))?;
        let size = DisplayConfig { width, height };
        if DisplayConfig::new(width, height) != size {
            bail!("a display has 1 to {MAX_SIDE} pixels a side, and {MAX_PIXELS} in all, not {width} x {height}");
        }
        Ok(Self { size, file })
    }
}

/// What to boot and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// bzImage or ELF.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    /// What the guest runs on.
    pub mode: Mode,
    /// Virtual CPUs of a domain.
    pub vcpus: u32,
    /// Guest RAM in MiB.
    pub mem: u64,
    /// What a domain may have later on, in MiB.
    pub max_mem: u64,
    /// Name of the CPU model.
    pub cpu: String,
    /// Guest time follows the instruction count.
    pub deterministic: bool,
    /// Guest time passes as on a host that this number makes up.
    pub schedule: Option<u64>,
    /// Stop after so many instructions.
    pub max_insns: Option<u64>,
    /// Print the hash of the machine's state at these instruction counts, rising.
    pub hash_at: Vec<u64>,
    /// Print what devices have to say.
    pub verbose: bool,
    /// Put the test device on the board.
    pub test_device: bool,
    /// Ctrl-A works also if standard input is no terminal.
    pub keys: bool,
    /// Disks of a domain.
    pub disks: Vec<Disk>,
    /// Network cards of a domain.
    pub nics: u8,
    /// A folder whose files a domain may mount.
    pub share: Option<PathBuf>,
    /// A display of a domain.
    pub display: Option<Screen>,
}

/// What `--help` prints.
pub const HELP: &str = "\
options:
  --mem MB          guest RAM in MiB
  --max-mem MB      what a domain may have later on (Ctrl-A : memory MB)
  --cmdline TEXT    the kernel's command line instead of the image's
  --append TEXT     added to the command line
  --mode MODE       pc: emulated hardware (the default); pv: a paravirtualized domain of Xen;
                    pvh: a domain with paging and interrupts of its own
  --vcpus N         virtual CPUs of a domain (1)
  --cpu MODEL       CPU model (x86-64-v2)
  --disk FILE       a disk of a domain, xvda first (repeatable); what the guest writes is kept in memory, not in the file.
                    FILE,ro: it cannot write; FILE,lazy: the file is read as it is needed
  --nic             a network card of a domain (repeatable); nobody is at the other end, --verbose shows what it sends
  --share FOLDER    its files for a domain to mount: mount -t 9p -o trans=xen,version=9p2000.L share /mnt. They are read
                    once; what the guest changes stays in the machine
  --display WxH     a display of a domain; WxH,FILE.ppm: at the end its picture is written to the file. Text appears on it
                    with --append console=tty0; Linux shows more than 2 MiB only with xen_fbfront.video=MiB,W,H
  --deterministic   guest time follows the instruction count: every run is the same
  --schedule SEED   time passes as on a busy host that the number makes up, now fast, now slow: the same run for the same
                    number, as long as nothing is typed. To look for what goes wrong once in a hundred boots
  --max-insns N     stop after N instructions
  --hash-at N       print a hash of the machine's state after exactly N instructions (repeatable)
  --verbose         print what devices have to say
  --test-device     a port (F4h) where the guest ends with a result: the runner's exit status is 0 if that is 0
  --keys            the runner's own keys (Ctrl-A h) work also if standard input is no terminal
  --kernel FILE, --initrd FILE
                    boot these";

/// Reads the options; later ones win.
pub fn read(args: impl IntoIterator<Item = String>) -> Result<Options> {
    let mut kernel = None;
    let mut options = Options {
        kernel: PathBuf::new(),
        initrd: None,
        cmdline: String::new(),
        mode: Mode::Pc,
        vcpus: 1,
        mem: 256,
        max_mem: 0,
        cpu: "x86-64-v2".into(),
        deterministic: false,
        schedule: None,
        max_insns: None,
        hash_at: Vec::new(),
        verbose: false,
        test_device: false,
        keys: false,
        disks: Vec::new(),
        nics: 0,
        share: None,
        display: None,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value\n{HELP}"));
        match arg.as_str() {
            "--kernel" => kernel = Some(PathBuf::from(value()?)),
            "--initrd" => options.initrd = Some(PathBuf::from(value()?)),
            "--cmdline" => options.cmdline = value()?,
            "--append" => {
                let more = value()?;
                options.cmdline = format!("{} {more}", options.cmdline).trim().to_owned();
            }
            "--mem" => options.mem = number(&value()?)?,
            "--max-mem" => options.max_mem = number(&value()?)?,
            "--mode" => {
                let name = value()?;
                options.mode =
                    Mode::by_name(&name).with_context(|| format!("there is no mode {name:?}; use pc, pv or pvh"))?;
            }
            "--vcpus" => options.vcpus = u32::try_from(number(&value()?)?).context("so many vCPUs")?,
            "--cpu" => options.cpu = value()?,
            "--disk" => options.disks.push(Disk::parse(&value()?)?),
            "--nic" => options.nics = options.nics.checked_add(1).context("so many network cards")?,
            "--share" => options.share = Some(value()?.into()),
            "--display" => options.display = Some(Screen::parse(&value()?)?),
            "--deterministic" => options.deterministic = true,
            "--schedule" => options.schedule = Some(number(&value()?)?),
            "--max-insns" => options.max_insns = Some(number(&value()?)?),
            "--hash-at" => options.hash_at.push(number(&value()?)?),
            "--verbose" => options.verbose = true,
            "--test-device" => options.test_device = true,
            "--keys" => options.keys = true,
            "--help" | "-h" => bail!("{HELP}"),
            other => bail!("there is no option `{other}`\n{HELP}"),
        }
    }
    if options.deterministic && options.disks.iter().any(|d| d.lazy) {
        bail!("when the data of a lazy disk arrives depends on the host; a deterministic machine cannot have one");
    }
    if options.deterministic && options.schedule.is_some() {
        bail!("time follows the instruction count (--deterministic) or a schedule (--schedule), not both");
    }
    options.hash_at.sort_unstable();
    options.hash_at.dedup();
    options.kernel = kernel.context("no kernel: give --kernel FILE")?;
    Ok(options)
}

/// A count: `5000`, `5_000`, `5k`, `20M`, `3G` (thousands, not 1024s).
fn number(text: &str) -> Result<u64> {
    let (digits, unit) = match text.chars().last() {
        Some('k') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let value: Option<u64> = digits.replace('_', "").parse().ok();
    value.and_then(|n| n.checked_mul(unit)).with_context(|| format!("`{text}` is not a number (5000, 20M, 3G)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_later_ones_win() {
        let o = parse(
            "--kernel a --mem 128 --cmdline quiet --append x=1 --mem 64 --hash-at 2M --hash-at 5k --deterministic --test-device",
        )
        .unwrap();
        assert_eq!((o.kernel, o.mem, o.cmdline.as_str()), (PathBuf::from("a"), 64, "quiet x=1"));
        assert_eq!((o.hash_at, o.deterministic, o.test_device), (vec![5_000, 2_000_000], true, true));
    }

    #[test]
    fn disks_are_in_the_order_they_are_named() {
        let disks = parse("--kernel a --disk x --disk y,lazy,ro").unwrap().disks;
        let disk = |file: &str, on| Disk { file: file.into(), read_only: on, lazy: on };
        assert_eq!(disks, [disk("x", false), disk("y", true)]);
    }

    #[test]
    fn a_display_has_a_size_and_perhaps_a_file() {
        let display = |text: &str| parse(&format!("--kernel a --display {text}")).unwrap().display;
        let size = DisplayConfig { width: 800, height: 600 };
        assert_eq!(display("800x600"), Some(Screen { size, file: None }));
        assert_eq!(display("800x600,a.ppm"), Some(Screen { size, file: Some("a.ppm".into()) }));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, says) in [
            ("", "no kernel"),
            ("--kernel", "wants a value"),
            ("--kernel a --mem x", "not a number"),
            ("--kernel a --max-insns 99999999999G", "not a number"),
            ("--kernel a --bogus", "--bogus"),
            ("--kernel a --display 800", "`800`"),
            ("--kernel a --display 9000x9000", "9000 x 9000"),
            ("--kernel a --schedule 1 --deterministic", "not both"),
            ("--kernel a --disk b,rw", "`rw`"),
            ("--kernel a --disk b,lazy --deterministic", "lazy disk"),
        ] {
            let error = format!("{:#}", parse(line).unwrap_err());
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
