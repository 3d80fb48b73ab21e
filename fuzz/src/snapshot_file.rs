//! A snapshot file that anybody may have written: its pages, and the rows in them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use jangada_bolt::{Content, Item, Reader, WalkError, plan, write};

use crate::{Input, sentence};

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Reads the input as a file, or as changes of a sound one: its checksums would keep most inputs out.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    if mode % 2 == 0 {
        return read_and_write(rest);
    }
    let mut file = file_of(&sound());
    let mut input = Input::new(rest);
    while !input.is_empty() {
        let patch = input.piece();
        let Some((at, bytes)) = patch.split_first_chunk::<3>() else { continue };
        let at = u32::from_le_bytes([at[0], at[1], at[2], 0]) as usize % file.len();
        let end = file.len().min(at + bytes.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
    }
    read_and_write(&file);
}

/// What can be read can be written, and is then read as the same.
fn read_and_write(file: &[u8]) {
    let buckets = match read(file) {
        Ok(buckets) => buckets,
        Err(error) => return sentence(&error),
    };
    // No page is looked at twice, so no more comes out than is there.
    let entries = buckets.values().flatten();
    let bytes: usize = entries.map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes <= file.len(), "a walk is no longer than the file");
    assert_eq!(read(&file_of(&buckets)), Ok(buckets), "what was written comes back");
}

fn read(file: &[u8]) -> Result<Buckets, String> {
    let reader = Reader::open(file, file.len() as u64).map_err(|error| error.to_string())?;
    let mut buckets = Buckets::new();
    let mut bucket = Vec::new();
    let walked = reader.walk::<Infallible>(&mut |item| {
        match item {
            Item::Bucket(name) => {
                bucket = name.to_vec();
                buckets.insert(bucket.clone(), BTreeMap::new());
            }
            Item::Entry { key, value } => {
                let entries = buckets.get_mut(&bucket).expect("its bucket has begun");
                let before = entries.insert(key.to_vec(), value.to_vec());
                assert_eq!(before, None, "keys ascend");
            }
        }
        Ok(())
    });
    match walked {
        Ok(()) => Ok(buckets),
        Err(WalkError::Read(error)) => Err(error.to_string()),
    }
}

fn file_of(buckets: &Buckets) -> Vec<u8> {
    let fill = |content: &mut Content<'_, Infallible>| {
        for (name, entries) in buckets {
            content.bucket(name)?;
            entries.iter().try_for_each(|(key, value)| content.put(key, value))?;
        }
        Ok(())
    };
    let Ok(plan) = plan(fill);
    let mut file = Vec::new();
    let mut out = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok(())
    };
    let Ok(()) = write(&plan, &mut out, fill);
    file
}

/// A file with pages of every kind.
fn sound() -> Buckets {
    let entries = |count: u64, bytes: usize| {
        (0..count).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; bytes])).collect()
    };
    let mut keys: BTreeMap<_, _> = entries(600, 60);
    keys.insert(300_u64.to_be_bytes().to_vec(), vec![3; 9_000]);
    let buckets = [("alarm", BTreeMap::new()), ("key", keys), ("meta", entries(3, 8))];
    buckets.map(|(name, entries)| (name.as_bytes().to_vec(), entries)).into()
}

/// A sound file, one without buckets, and changes of the places that name others.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let file = |buckets: &Buckets| [&[0][..], &file_of(buckets)].concat();
    let patch = |at: u32, bytes: &[u8]| {
        let at = at.to_le_bytes();
        let patch = [&at[..3], bytes].concat();
        let length = u8::try_from(patch.len()).expect("a patch is short");
        [&[1, length][..], &patch].concat()
    };
    let page = |id: u32| id * 4096;
    vec![
        file(&Buckets::new()),
        file(&sound()),
        vec![1],
        patch(page(3), &[9]),
        patch(page(3) + 8, &[1]),
        patch(page(3) + 10, &[0xff, 0xff]),
        patch(page(3) + 12, &[1]),
        patch(page(4) + 20, &[0xff; 4]),
    ]
}
