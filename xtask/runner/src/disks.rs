//! Files as the guest's disks. They are only ever read.

use crate::options::Disk;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use tabvisor_devices::backend::{DiskConfig, DiskImage, SECTOR};

/// Files that are read when the guest needs them; `None` for disks in memory.
pub type Files = Vec<Option<File>>;

/// What the machine is to have, and the files behind it.
pub fn open(disks: &[Disk]) -> Result<(Vec<DiskConfig>, Files)> {
    let mut configs = Vec::new();
    let mut files = Vec::new();
    for disk in disks {
        let (image, file) =
            one(disk).with_context(|| format!("cannot read {}; check that it is a file", disk.file.display()))?;
        configs.push(DiskConfig { image, read_only: disk.read_only, ..DiskConfig::default() });
        files.push(file);
    }
    Ok((configs, files))
}

fn one(disk: &Disk) -> io::Result<(DiskImage, Option<File>)> {
    let mut file = File::open(&disk.file)?;
    if disk.lazy {
        let bytes = file.seek(SeekFrom::End(0))?;
        return Ok((DiskImage::Outside(bytes.div_ceil(SECTOR)), Some(file)));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((DiskImage::Memory(Arc::new(bytes)), None))
}

/// Sectors of a file; what is behind its end is zeros.
pub fn read(file: &mut File, first: u64, count: u32) -> io::Result<Vec<u8>> {
    let len = u64::from(count) * SECTOR;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(first * SECTOR))?;
    file.take(len).read_to_end(&mut bytes)?;
    bytes.resize(len as usize, 0);
    Ok(bytes)
}
