//! A disk with a partition table of the IBM PC (MBR) and one partition. Source: UEFI specification 2.10, 5.2.1 "Legacy
//! Master Boot Record".

use anyhow::{Context, Result};

/// Where the partition begins: where every tool of the last years puts the first one.
const START: usize = 1 << 20;
const SECTOR: usize = 512;
/// Identifies the disk.
const SIGNATURE: [u8; 4] = *b"tabv";
/// The partition's type.
const LINUX: u8 = 0x83;
/// Cylinder, head and sector of what lies beyond cylinder 1023.
const NO_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

/// The disk whose partition has this content.
pub fn disk(partition: &[u8]) -> Result<Vec<u8>> {
    let sectors = |bytes: usize| u32::try_from(bytes.div_ceil(SECTOR)).context("the partition is too large");
    let mut disk = vec![0; START];
    disk[440..444].copy_from_slice(&SIGNATURE);
    let entry = &mut disk[446..462];
    entry[0] = 0x80; // active
    entry[1..4].copy_from_slice(&NO_CHS);
    entry[4] = LINUX;
    entry[5..8].copy_from_slice(&NO_CHS);
    entry[8..12].copy_from_slice(&sectors(START)?.to_le_bytes());
    entry[12..16].copy_from_slice(&sectors(partition.len())?.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.extend(partition);
    disk.resize(disk.len().next_multiple_of(SECTOR), 0);
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_where_the_partition_is() {
        let disk = disk(&[7; 1000]).unwrap();
        let word = |at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap()) as usize;
        let (first, sectors) = (word(446 + 8), word(446 + 12));
        assert_eq!((disk[446], disk[450], &disk[510..512]), (0x80, 0x83, &[0x55, 0xaa][..]));
        let partition = &disk[first * SECTOR..(first + sectors) * SECTOR];
        assert_eq!((partition.len(), partition[999], partition[1000]), (1024, 7, 0));
        assert_eq!(disk.len(), (first + sectors) * SECTOR);
        assert!(disk[462..510].iter().all(|b| *b == 0), "there is no other");
    }
}
