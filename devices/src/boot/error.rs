//! Why a kernel could not be made ready to run, in words for the person at the page.

use super::MAX_FILE;

/// Why a kernel, its initrd or its tables could not be placed in memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// The file is no kernel of a kind we know; the text says what it looks like.
    #[error(
        "the kernel file is not a kernel: it {0}; use a Linux bzImage, an x86 ELF executable or a packed kernel of this project"
    )]
    NotAKernel(String),
    /// The file ends before its headers say it does.
    #[error("the kernel is cut off: {what} needs {needs} bytes, the file has {has}; load or build the file again")]
    Truncated {
        /// Which part is incomplete.
        what: &'static str,
        /// Bytes the file should have at least.
        needs: u64,
        /// Bytes it has.
        has: u64,
    },
    /// A header field has a value that no working kernel has.
    #[error("the kernel is damaged: {what} is {value:#x}, expected {expected}; load or build the file again")]
    Damaged {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// What would have been right.
        expected: &'static str,
    },
    /// A kernel from before the boot protocol we speak.
    #[error("the kernel speaks Linux boot protocol {}.{:02}, this loader needs 2.02 or newer and a bzImage; use a newer kernel", .0 >> 8, .0 & 0xff)]
    OldProtocol(u16),
    /// A file that no machine has room for.
    #[error("the {what} has {has} bytes or more, it may have {MAX_FILE}; use a smaller file")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Bytes seen so far.
        has: u64,
    },
    /// The machine has too little RAM.
    #[error("{what} needs {} MiB of memory, the machine has {} MiB; give it at least {} MiB", mib(*.needs), .has >> 20, mib(*.needs))]
    NeedsMemory {
        /// What does not fit.
        what: &'static str,
        /// Bytes of RAM that would be enough.
        needs: u64,
        /// Bytes of RAM there are.
        has: u64,
    },
    /// The initrd does not fit beside the kernel; `needs` bytes of RAM would be enough.
    #[error(
        "the initrd of {size} bytes does not fit: {room} bytes are free between the kernel and the end of the memory it may use; {}",
        initrd_advice(*.needs)
    )]
    InitrdTooLarge {
        /// Bytes of the initrd.
        size: u64,
        /// Bytes free for it.
        room: u64,
        /// Bytes of RAM that would be enough, if more would help.
        needs: Option<u64>,
    },
    /// The command line is longer than the kernel takes.
    #[error("the command line has {len} bytes, this kernel takes {max}; shorten it")]
    CommandLineTooLong {
        /// Its bytes.
        len: usize,
        /// Bytes the kernel takes.
        max: usize,
    },
    /// The command line has a zero byte in it.
    #[error("the command line has a zero byte at position {0}; remove it")]
    CommandLineZero(usize),
    /// A number of CPUs the tables cannot describe.
    #[error("{0} CPUs: the ACPI tables describe 1 to 255")]
    Cpus(u32),
}

fn mib(n: u64) -> u64 {
    n.div_ceil(1 << 20)
}

fn initrd_advice(needs: Option<u64>) -> String {
    match needs {
        Some(n) => format!("give the machine at least {} MiB of memory", mib(n)),
        None => "this kernel cannot use an initrd that large, more memory would not help".into(),
    }
}
