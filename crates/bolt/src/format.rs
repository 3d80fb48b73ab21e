//! The numbers of the format, and the two pages that name the rest.

/// The size of a page of a file that is written here. etcd takes the system's, which is nearly always
/// this; a file says which it has.
pub const PAGE_BYTES: usize = 4096;

/// A page's header: id (u64), flags (u16), count (u16), overflow (u32).
pub(crate) const PAGE_HEADER_BYTES: usize = 16;

/// An element of a leaf: flags, position, length of the key and of the value (u32 each). Of a branch:
/// position, length of the key (u32 each), page (u64). Positions count from the element's own first
/// byte.
pub(crate) const ELEMENT_BYTES: usize = 16;

/// What a bucket's value begins with: its root page (u64, 0 for a bucket whose only page follows) and a
/// sequence (u64).
pub(crate) const BUCKET_BYTES: usize = 16;

pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;

/// The flag of a leaf's element that is a bucket.
pub(crate) const IS_BUCKET: u32 = 0x01;

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;

/// A meta page behind its header.
pub(crate) const META_BYTES: usize = 64;

/// Where the checksum stands in it.
const META_SUM_AT: usize = 56;

/// What a meta page says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    /// The page of the bucket that holds the buckets.
    pub(crate) root: u64,
    pub(crate) freelist: u64,
    /// One past the last page in use.
    pub(crate) pages: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.root.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.pages.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let sum = fnv1a(&bytes[..META_SUM_AT]);
        bytes[META_SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are no sound meta page of the version that is known.
    pub(crate) fn decode(bytes: &[u8; META_BYTES]) -> Option<Meta> {
        let sound = u32_at(bytes, 0) == MAGIC
            && u32_at(bytes, 4) == VERSION
            && u64_at(bytes, META_SUM_AT) == fnv1a(&bytes[..META_SUM_AT]);
        sound.then(|| Meta {
            page_bytes: u32_at(bytes, 8),
            root: u64_at(bytes, 16),
            freelist: u64_at(bytes, 32),
            pages: u64_at(bytes, 40),
            transaction: u64_at(bytes, 48),
        })
    }
}

/// A page's header.
pub(crate) fn page_header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; 16] {
    let mut bytes = [0; PAGE_HEADER_BYTES];
    bytes[0..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..10].copy_from_slice(&flags.to_le_bytes());
    bytes[10..12].copy_from_slice(&count.to_le_bytes());
    bytes[12..16].copy_from_slice(&overflow.to_le_bytes());
    bytes
}

/// FNV-1a in 64 bits, the checksum of meta pages.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The number at a place that the caller knows to be there.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_of_known_texts() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_meta_page_comes_back_and_no_byte_of_it_may_change() {
        let meta = Meta { page_bytes: 4096, root: 5, freelist: 2, pages: 9, transaction: 7 };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta));
        for at in 0..META_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Meta::decode(&damaged), None, "byte {at}");
        }
    }
}
